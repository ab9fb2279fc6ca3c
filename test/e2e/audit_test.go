//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// request is what the API server's audit log says of one request.
type request struct {
	Verb      string
	Stage     string
	UserAgent string
	URI       string `json:"requestURI"`
	User      struct{ Username string }
	As        struct{ Username string }                                         `json:"impersonatedUser"`
	Object    struct{ Resource, Subresource, Namespace, Name, APIGroup string } `json:"objectRef"`
	Status    struct{ Code int }                                                `json:"responseStatus"`
}

// what names the request as RBAC does: "create pods/portforward".
func (r request) what() string {
	res := r.Object.Resource
	if r.Object.Subresource != "" {
		res += "/" + r.Object.Subresource
	}
	if r.Object.APIGroup != "" {
		res += "." + r.Object.APIGroup
	}
	return r.Verb + " " + res
}

// needAudit skips the test on clusters whose audit log is out of reach.
func (s *space) needAudit() {
	s.Helper()
	if s.bed.Audit == "" {
		s.Skip("this needs the API server's audit log, which only the lab has within reach")
	}
}

// auditPosition is where the log ends now.
func (s *space) auditPosition() int64 {
	s.Helper()
	info, err := os.Stat(s.bed.Audit)
	if err != nil {
		s.Fatal(err)
	}
	return info.Size()
}

// audited returns the plugin's requests since a position that match.
func (s *space) audited(since int64, match func(request) bool) []request {
	s.Helper()
	// A request whose name is ours alone, made after the others, says when the log has them.
	marker := s.ns + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	_, err := s.client.CoreV1().ConfigMaps(s.ns).Get(s.ctx, marker, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		s.Fatalf("mark the audit log: %v", err)
	}
	var text []byte
	s.eventually("the audit log", 30*time.Second, func() (bool, string) {
		text = s.auditSince(since)
		return bytes.Contains(text, []byte(marker)), "the marker is missing"
	})
	var out []request
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) == nil && strings.HasPrefix(r.UserAgent, "kubectl-grpclb") && r.Stage == "ResponseComplete" && match(r) {
			out = append(out, r)
		}
	}
	if err := lines.Err(); err != nil {
		s.Fatal(err)
	}
	return out
}

func (s *space) auditSince(position int64) []byte {
	s.Helper()
	b, err := os.ReadFile(s.bed.Audit)
	if err != nil {
		s.Fatal(err)
	}
	if int64(len(b)) < position {
		return b // the log was rotated meanwhile
	}
	return b[position:]
}
