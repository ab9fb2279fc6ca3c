package snapfile

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// rule says what redaction does with a string field.
type rule int

const (
	asName    rule = iota // identifiers, hosts, addresses: what has no other rule
	asIs                  // words of the API or of this program
	asText                // sentences: names are looked for in them
	asKind                // kinds of objects: those of Kubernetes stay
	asUID                 // hashed as a whole
	asSubject             // "pod NAMESPACE/NAME": the first word stays
	asReasons             // a map of check IDs, which stay, to words of the owner
)

// rules are the fields that are no identifiers, by type and field.
var rules = map[string]rule{
	"Snapshot.APIVersion": asIs, "Snapshot.Kind": asIs, "Snapshot.Tool": asIs, "Snapshot.Depth": asIs,
	"Status.State": asIs, "Status.Reason": asText, "Status.Hint": asText,
	"Gap.Fact": asIs, "Gap.Subject": asSubject,
	"Cluster.Version": asIs, "Cluster.DomainFrom": asIs,
	"Service.UID": asUID, "Service.Ignore": asReasons, "Service.Type": asIs, "Service.SessionAffinity": asIs, "Service.IPFamilies": asIs,
	"ServicePort.Protocol": asIs, "SlicePort.Protocol": asIs, "ContainerPort.Protocol": asIs, "Slice.AddressType": asIs,
	"Pod.UID": asUID, "Pod.DNSPolicy": asIs, "Pod.Phase": asIs, "Pod.Trouble": asIs,
	"Owner.Kind": asKind, "Workload.Kind": asKind,
	"Node.Kubelet": asIs, "Container.Hints": asIs, "Probe.Kind": asIs, "Mesh.Kind": asIs, "Mesh.Mode": asIs,
	"Target.Source": asIs, "Target.Kind": asIs,
	"DNSAnswer.Type": asIs, "DNSAnswer.Rcode": asIs, "DNSAnswer.Transport": asIs, "DNSAnswer.Error": asText,
	"PortProbe.Proto": asIs, "PortProbe.Health": asIs, "PortProbe.Evidence": asText, "PortProbe.Error": asText,
	"TLSInfo.ALPN":       asIs,
	"SocketTable.Source": asIs, "SocketTable.Error": asText, "Socket.State": asIs,
	"ProbeRun.Via": asIs, "ProbeRun.Error": asText, "ProbeChannel.Codes": asIs, "ProbeChannel.Error": asText,
}

// kinds of workloads that Kubernetes itself has.
var kinds = set("Deployment StatefulSet DaemonSet ReplicaSet ReplicationController Job CronJob Pod Node")

// Redact returns a copy of the snapshot in which names, hosts, addresses, zones, labels and images are replaced, each
// by the same stand-in everywhere, so that it replays to the same findings. Words that only say what kind of thing
// something is (service, grpc, headless) and numbers up to five digits stay, as do times and sizes. Addresses stay
// valid and keep common prefixes.
//
// The stand-ins follow from the salt: without it they cannot be recomputed from guessed names. Nil means a random
// salt, so that two redactions cannot be told to be of the same cluster; give one (16 bytes or more) to compare them.
func Redact(s *diagnose.Snapshot, salt []byte) (*diagnose.Snapshot, error) {
	if salt == nil {
		salt = make([]byte, 32)
		if _, err := rand.Read(salt); err != nil {
			return nil, fmt.Errorf("redact snapshot: %w", err)
		}
	}
	out, err := deepCopy(s)
	if err != nil {
		return nil, fmt.Errorf("redact snapshot: %w", err)
	}
	w := &words{salt: salt, addrs: newAddrs(salt, ranges(s)), identifiers: map[string]bool{}, collecting: true}
	redact(reflect.ValueOf(out).Elem(), asName, w)
	w.collecting = false
	redact(reflect.ValueOf(out).Elem(), asName, w)
	for i := range out.DNS.Value {
		slices.Sort(out.DNS.Value[i].Addresses)
	}
	out.Redacted = true
	return out, nil
}

func deepCopy(s *diagnose.Snapshot) (*diagnose.Snapshot, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out diagnose.Snapshot
	return &out, json.NewDecoder(bytes.NewReader(b)).Decode(&out)
}

func ranges(s *diagnose.Snapshot) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range s.Nodes.Value {
		for _, c := range n.CIDRs {
			if p, err := netip.ParsePrefix(c); err == nil {
				out = append(out, p)
			}
		}
	}
	return out
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	addrPortType = reflect.TypeFor[netip.AddrPort]()
)

// redact walks all of a value. Strings follow the rule of the field that they are in, also inside lists and maps.
func redact(v reflect.Value, r rule, w *words) {
	switch v.Kind() {
	case reflect.Struct:
		redactStruct(v, w)
	case reflect.Pointer:
		if !v.IsNil() {
			redact(v.Elem(), r, w)
		}
	case reflect.Slice:
		for i := range v.Len() {
			redact(v.Index(i), r, w)
		}
	case reflect.Map:
		redactMap(v, r, w)
	case reflect.String:
		v.SetString(w.apply(r, v.String()))
	}
}

func redactStruct(v reflect.Value, w *words) {
	switch v.Type() {
	case timeType:
		return
	case addrPortType:
		if a, ok := v.Interface().(netip.AddrPort); ok && a.IsValid() && !w.collecting {
			v.Set(reflect.ValueOf(netip.AddrPortFrom(w.addrs.addr(a.Addr()), a.Port())))
		}
		return
	}
	for i := range v.NumField() {
		redact(v.Field(i), rules[v.Type().Name()+"."+v.Type().Field(i).Name], w)
	}
}

func redactMap(v reflect.Value, r rule, w *words) {
	if v.IsNil() {
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), v.Len())
	for it := v.MapRange(); it.Next(); {
		key := reflect.New(v.Type().Key()).Elem()
		key.Set(it.Key())
		if r != asReasons {
			redact(key, r, w)
		}
		val := reflect.New(v.Type().Elem()).Elem()
		val.Set(it.Value())
		redact(val, r, w)
		out.SetMapIndex(key, val)
	}
	v.Set(out)
}

func (w *words) apply(r rule, s string) string {
	switch {
	case s == "" || r == asIs || r == asKind && kinds[s]:
		return s
	case r == asText:
		return w.text(s)
	case r == asUID && !w.collecting:
		return w.hash(s)
	case r == asSubject:
		kind, rest, ok := strings.Cut(s, " ")
		if ok {
			return kind + " " + w.name(rest)
		}
	}
	return w.name(s)
}
