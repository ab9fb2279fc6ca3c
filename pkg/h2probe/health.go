package h2probe

import (
	"encoding/binary"
	"fmt"
)

// healthRequest encodes grpc.health.v1.HealthCheckRequest: field 1, string service. The empty service is the empty message.
func healthRequest(service string) []byte {
	if service == "" {
		return nil
	}
	b := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(service)))
	return append(b, service...)
}

// healthOf turns the end of a Health/Check call into words.
func healthOf(r Reply, err error) *Health {
	h := &Health{Code: r.Code}
	switch {
	case err != nil:
		h.Error = clean(unwrapCall(err).Error(), 200)
	case r.Code != OK:
		h.Error = clean(r.Message, 200)
	default:
		status, err := decodeHealth(r.Body)
		if err != nil {
			h.Error = err.Error()
			break
		}
		h.Status = status
	}
	return h
}

// decodeHealth reads field 1, the serving status, out of grpc.health.v1.HealthCheckResponse and passes over the others. The
// last value counts, as protobuf has it; an absent one is 0.
func decodeHealth(b []byte) (string, error) {
	var status uint64
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return "", fmt.Errorf("malformed health answer")
		}
		b = b[n:]
		value, rest, ok := skipField(tag&7, b)
		if !ok {
			return "", fmt.Errorf("malformed health answer")
		}
		if tag == 1<<3 {
			status = value
		}
		b = rest
	}
	names := [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status >= uint64(len(names)) {
		return "", fmt.Errorf("health answer with status %d", status)
	}
	return names[status], nil
}

// skipField steps over one field of the given wire type; value is that of a varint.
func skipField(wire uint64, b []byte) (value uint64, rest []byte, ok bool) {
	var size uint64
	switch wire {
	case 0:
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, nil, false
		}
		return v, b[n:], true
	case 1:
		size = 8
	case 2:
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, nil, false
		}
		b, size = b[n:], v
	case 5:
		size = 4
	default:
		return 0, nil, false
	}
	if size > uint64(len(b)) {
		return 0, nil, false
	}
	return 0, b[size:], true
}
