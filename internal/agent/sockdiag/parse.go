package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
)

// Layouts of the kernel's interface (linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, linux/tcp.h). They are written out
// so that the parser can be tested and fuzzed on any system; a test on Linux compares them with golang.org/x/sys/unix.
const (
	headerLen  = 16 // struct nlmsghdr
	requestLen = 56 // struct inet_diag_req_v2
	messageLen = 72 // struct inet_diag_msg

	typeError = 2  // NLMSG_ERROR
	typeDone  = 3  // NLMSG_DONE
	typeDiag  = 20 // SOCK_DIAG_BY_FAMILY
	flagIntr  = 16 // NLM_F_DUMP_INTR

	attrInfo = 2 // INET_DIAG_INFO

	familyIPv4 = 2  // AF_INET
	familyIPv6 = 10 // AF_INET6

	offRTT           = 68
	offBytesAcked    = 120 // since Linux 4.1
	offBytesReceived = 128 // since Linux 4.1
	offSegsIn        = 140 // since Linux 4.2

	stateListen = 10
)

// Errors of Dump. Test with errors.Is.
var (
	// ErrUnsupported: the system is not Linux.
	ErrUnsupported = errors.New("reading sockets from the kernel works on Linux only")
	// ErrInterrupted: the tables changed under the dump each time it was tried; the result may lack sockets or hold some twice.
	ErrInterrupted = errors.New("the kernel's socket table changed while it was read")
	// ErrMalformed: the kernel's answer is not of the known layout.
	ErrMalformed = errors.New("malformed answer of the kernel")
)

// Record is one socket of a Table.
type Record struct {
	agentapi.Socket
	// Cookie identifies the socket for as long as it lives, also when its addresses are used again.
	Cookie uint64
}

// request renders a dump request for one family; states has bit n set for state n.
func request(family uint8, states, seq uint32) []byte {
	const flags = 0x1 | 0x100 | 0x200 // NLM_F_REQUEST | NLM_F_DUMP
	const protocolTCP = 6
	b := make([]byte, headerLen+requestLen)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], typeDiag)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	b[headerLen] = family
	b[headerLen+1] = protocolTCP
	b[headerLen+2] = 1 << (attrInfo - 1)
	binary.NativeEndian.PutUint32(b[headerLen+4:], states)
	return b
}

// answer gathers the datagrams of one dump.
type answer struct {
	seq     uint32
	records []Record
	done    bool
	intr    bool // the kernel says that the dump is not of one moment
}

// take reads one datagram. Messages of other requests are passed over.
func (a *answer) take(b []byte) error {
	for len(b) > 0 {
		if len(b) < headerLen {
			return fmt.Errorf("%w: %d bytes after the last message", ErrMalformed, len(b))
		}
		length := binary.NativeEndian.Uint32(b)
		if length < headerLen || uint64(length) > uint64(len(b)) {
			return fmt.Errorf("%w: message of %d bytes in %d", ErrMalformed, length, len(b))
		}
		if binary.NativeEndian.Uint32(b[8:]) == a.seq {
			kind, flags := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
			a.intr = a.intr || flags&flagIntr != 0
			if err := a.message(kind, b[headerLen:length]); err != nil || a.done {
				return err
			}
		}
		b = b[min(uint64(len(b)), (uint64(length)+3)&^3):]
	}
	return nil
}

func (a *answer) message(kind uint16, payload []byte) error {
	switch kind {
	case typeDone, typeError:
		a.done = true
		if len(payload) < 4 { // old kernels end a dump without a code
			if kind == typeDone {
				return nil
			}
			return fmt.Errorf("%w: error of %d bytes", ErrMalformed, len(payload))
		}
		if code := int32(binary.NativeEndian.Uint32(payload)); code != 0 {
			return syscall.Errno(uint32(-code))
		}
		return nil
	case typeDiag:
		r, err := parseRecord(payload)
		if err != nil {
			return err
		}
		a.records = append(a.records, r)
	}
	return nil
}

// parseRecord reads one struct inet_diag_msg and the attributes behind it.
func parseRecord(b []byte) (Record, error) {
	var r Record
	if len(b) < messageLen {
		return r, fmt.Errorf("%w: socket of %d bytes", ErrMalformed, len(b))
	}
	family, state := b[0], b[1]
	addr := func(at, port int) (netip.AddrPort, error) {
		var ip netip.Addr
		switch family {
		case familyIPv4:
			ip = netip.AddrFrom4([4]byte(b[at : at+4]))
		case familyIPv6:
			ip = netip.AddrFrom16([16]byte(b[at : at+16])).Unmap()
		default:
			return netip.AddrPort{}, fmt.Errorf("%w: family %d", ErrMalformed, family)
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[port:])), nil
	}
	var err error
	if r.Local, err = addr(8, 4); err != nil {
		return r, err
	}
	if r.Remote, err = addr(24, 6); err != nil {
		return r, err
	}
	r.State = agentapi.TCPState(state)
	r.Cookie = uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32
	r.UID = binary.NativeEndian.Uint32(b[64:])
	r.Inode = uint64(binary.NativeEndian.Uint32(b[68:]))
	if state != stateListen { // its counters count other things
		r.takeInfo(findAttr(b[messageLen:], attrInfo))
	}
	return r, nil
}

// findAttr gives the payload of a struct rtattr, nil when there is none. Attributes cut short end the search.
func findAttr(b []byte, kind uint16) []byte {
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[4:length]
		}
		b = b[min(len(b), (length+3)&^3):]
	}
	return nil
}

// takeInfo reads what a struct tcp_info of this length has: it grew at its end with the kernel's versions.
func (r *Record) takeInfo(info []byte) {
	u32 := func(at int) *uint32 {
		if len(info) < at+4 {
			return nil
		}
		v := binary.NativeEndian.Uint32(info[at:])
		return &v
	}
	u64 := func(at int) *uint64 {
		if len(info) < at+8 {
			return nil
		}
		v := binary.NativeEndian.Uint64(info[at:])
		return &v
	}
	r.RTTMicros, r.SegsIn = u32(offRTT), u32(offSegsIn)
	r.TxBytes, r.RxBytes = u64(offBytesAcked), u64(offBytesReceived)
}
