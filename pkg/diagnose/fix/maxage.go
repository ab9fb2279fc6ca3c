package fix

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// maxAge makes the servers send clients away from time to time (gRFC A9), so that they ask DNS again and connect anew.
func (b *builder) maxAge() error {
	age, grace := cmp.Or(b.o.MaxAge, defaultMaxAge), cmp.Or(b.o.Grace, defaultGrace)
	b.plan.Title = fmt.Sprintf("let the servers end connections after %s, so that clients look again", short(age))
	if age < time.Second || grace < time.Second {
		return b.refuse(CodeBadOption, "a connection's set-up must stay rare beside its use", "an age or grace below a second")
	}
	var err error
	if b.plan.Snippets, err = snippets("server", serverCode{Age: age, Grace: grace}); err != nil {
		return err
	}
	if who := b.servers(); who != "" {
		b.note("The change goes into the server code behind svc/%s: %s.", b.v.Service.Name, who)
	}
	b.note("C#: Kestrel has no such setting; use a proxy in front of it, or clients that refresh by themselves.")
	b.caveat("Calls and streams that last longer than the grace (%s) after the age are cut with UNAVAILABLE.", short(grace))
	b.caveat("Clients that started together reconnect together: each server spreads the age by 10 %% up and down (gRFC A9), no more.")
	if !b.v.Service.Headless() {
		b.caveat("Through a ClusterIP it only deals the connections anew: between two deals each client keeps to one pod. Calls are balanced by a headless Service with round_robin.")
	}
	return nil
}

// servers lists the workloads behind the Service.
func (b *builder) servers() string {
	var out []string
	for _, e := range b.v.Endpoints() {
		if p := b.v.Pod(e.Pod); p != nil && p.Owner.Name != "" {
			add(&out, strings.ToLower(p.Owner.Kind)+"/"+p.Owner.Name)
		}
	}
	return strings.Join(out, ", ")
}

// short writes a duration without parts that are zero: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
