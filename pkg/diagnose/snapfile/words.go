package snapfile

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
)

// generic are the words that survive in names: they say what kind of thing something is, to the checks (is the port
// called grpc?) and to a reader, and nothing about whose it is. Everything else is hashed word by word, so that names
// made of one another stay so: NAME-headless of NAME, a pod of its Deployment, a host of its Service.
var generic = set(
	"headless svc service services server client app pod pods node cluster local kubernetes k8s io",
	"dns static passthrough xds unix ipv4 ipv6 tcp udp grpc grpcs web h2c http https http1 http2 tls none",
	"metrics prometheus mysql postgres postgresql pgsql redis mongo mongodb amqp kafka memcached ldap smtp ssh ws wss nats cql zookeeper",
	"address addresses addr host hostname port target url uri endpoint name env config",
	"round robin pick first least request weighted ring hash random",
	"istio linkerd proxy init sidecar grpclb refresher",
	"default kube system coredns", // given by Kubernetes, not by an owner
)

func set(lines ...string) map[string]bool {
	out := map[string]bool{}
	for _, l := range lines {
		for _, w := range strings.Fields(l) {
			out[w] = true
		}
	}
	return out
}

// words replaces the words of names and texts.
type words struct {
	salt  []byte
	addrs *addrs
	// identifiers are the names of the snapshot: a text that holds one loses it there too.
	identifiers map[string]bool
	collecting  bool // the first pass only fills identifiers
}

var (
	// inName finds addresses, also dashed as in the DNS names of pods and nodes, and words.
	inName = regexp.MustCompile(`\[[0-9a-fA-F:.]+\]|\d{1,3}(?:\.\d{1,3}){3}|\d{1,3}(?:-\d{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*|[\pL\pN]+`)
	// inText finds quoted strings, and runs of what names are made of.
	inText   = regexp.MustCompile(`"[^"]*"|\[[0-9a-fA-F:.]+\]|[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]+|[\pL\pN][\pL\pN._@-]*[\pL\pN]|[\pL\pN]`)
	onlyWord = regexp.MustCompile(`[\pL\pN]+`)
)

// name replaces an identifier: a name, a host, an image, a target. Numbers of up to five digits (ports, ordinals) and
// generic words stay.
func (w *words) name(s string) string {
	if w.collecting {
		w.identifiers[s] = true
		return s
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return w.addrs.prefix(p).String()
	}
	return inName.ReplaceAllStringFunc(s, w.part)
}

func (w *words) part(s string) string {
	bare := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if ip, err := netip.ParseAddr(bare); err == nil {
		return strings.Replace(s, bare, w.addrs.addr(ip).String(), 1)
	}
	if ip, err := netip.ParseAddr(strings.ReplaceAll(s, "-", ".")); err == nil {
		return strings.ReplaceAll(w.addrs.addr(ip).String(), ".", "-")
	}
	return onlyWord.ReplaceAllStringFunc(s, w.word)
}

const maxDigits = 5

func (w *words) word(s string) string {
	lower := strings.ToLower(s)
	if generic[lower] || len(s) <= maxDigits && strings.Trim(s, "0123456789") == "" {
		return s
	}
	// A port is taken for gRPC by the start of a word, a container port by any part of its name.
	if i := strings.Index(lower, "grpc"); i >= 0 && len(lower) == len(s) {
		return w.optional(s[:i]) + s[i:i+4] + w.optional(s[i+4:])
	}
	h := w.hash(lower)
	if strings.ToUpper(s) == s && strings.IndexFunc(s, unicode.IsLetter) >= 0 {
		h = strings.ToUpper(h)
	}
	return h
}

func (w *words) optional(s string) string {
	if s == "" {
		return ""
	}
	return w.word(s)
}

// hash starts with a letter, so that it is neither a number nor the beginning of an address.
func (w *words) hash(s string) string {
	mac := hmac.New(sha256.New, w.salt)
	mac.Write([]byte("word:" + s))
	return "x" + hex.EncodeToString(mac.Sum(nil)[:5])
}

// shortest is the length below which a name is not searched for in texts: the zone "a" would take every article.
const shortest = 3

// text replaces the names in a sentence: those of the snapshot, whatever is quoted, and whatever has the look of a
// host, an address, or a generated name.
func (w *words) text(s string) string {
	if w.collecting {
		return s
	}
	return inText.ReplaceAllStringFunc(s, func(run string) string {
		if run[0] == '"' || strings.ContainsAny(run, ".@[:") || mixed(run) || w.known(run) {
			return w.name(run)
		}
		return run
	})
}

func (w *words) known(run string) bool {
	return len(run) >= shortest && w.identifiers[run]
}

// mixed reports whether a run has both digits and letters.
func mixed(s string) bool {
	return strings.ContainsAny(s, "0123456789") && strings.IndexFunc(s, unicode.IsLetter) >= 0
}
