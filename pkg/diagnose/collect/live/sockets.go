package live

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// Sockets reads the TCP connections of server pods, from an ephemeral container in each; where those are refused, from /proc/net/tcp
// by exec of the image's own cat, which gives connections without rates.
func Sockets(o Options) collect.Stage {
	o = o.withDefaults()
	return func(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot) error {
		s.Emit(collect.Event{Fact: diagnose.FactSockets, Step: collect.StepStart})
		snap.Sockets = readSockets(ctx, s, snap, o)
		s.Emit(collect.Event{Fact: diagnose.FactSockets, Step: collect.StepEnd, Status: snap.Sockets.Status})
		return ctx.Err()
	}
}

func readSockets(ctx context.Context, s *collect.Session, snap *diagnose.Snapshot, o Options) diagnose.Fact[[]diagnose.SocketTable] {
	work := podsToRead(snap, o.MaxPods)
	if len(work) == 0 {
		return diagnose.Unknown[[]diagnose.SocketTable](diagnose.NotAsked, "no ready pod to read sockets of", "")
	}
	o.announce(fmt.Sprintf("adding an ephemeral container (%s) to %s to read socket tables for %s; it ends by itself, its entry stays in the pod's spec",
		o.Image, countPods(work), o.Interval))
	results := make([]diagnose.SocketTable, len(work))
	fails := make([]diagnose.Status, len(work))
	group := newLimited(ctx, maxStreams)
	for i, w := range work {
		results[i].Pod = w.pod
		fails[i] = diagnose.Status{State: diagnose.Failed, Reason: "interrupted before the sockets were read"}
		group.Go(func() {
			results[i], fails[i] = readTable(ctx, s, w, o)
			s.Emit(collect.Event{Fact: diagnose.FactSockets, Step: collect.StepProgress, Done: i + 1, Total: len(work)})
		})
	}
	group.Wait()
	var worst diagnose.Status
	good := 0
	for i := range work {
		if fails[i].State == "" {
			good++
			continue
		}
		worst = fails[i]
		results[i].Error = fails[i].Reason
		s.Gap(diagnose.Gap{Fact: diagnose.FactSockets, Subject: "pod " + work[i].pod.String(), Status: fails[i]})
	}
	if good == 0 {
		return diagnose.Fact[[]diagnose.SocketTable]{Status: worst}
	}
	return diagnose.Know(results)
}

func countPods(work []portWork) string {
	if len(work) == 1 {
		return "pod " + work[0].pod.String()
	}
	return fmt.Sprintf("%d pods in namespace %s", len(work), work[0].pod.Namespace)
}

// podsToRead chooses the pods and all TCP ports on which they serve a target.
func podsToRead(snap *diagnose.Snapshot, limit int) []portWork {
	var out []portWork
	for _, k := range snap.Targets {
		v, ok := snap.View(k)
		if !ok || v.GRPC().Level == diagnose.GRPCNo {
			continue
		}
		for _, e := range sample(v, limit) {
			i := slices.IndexFunc(out, func(w portWork) bool { return w.pod == e.Pod })
			if i < 0 {
				out = append(out, portWork{pod: e.Pod})
				i = len(out) - 1
			}
			for _, n := range e.Ports {
				if !slices.Contains(out[i].ports, n) {
					out[i].ports = append(out[i].ports, n)
				}
			}
			slices.Sort(out[i].ports)
		}
	}
	return out
}

func readTable(ctx context.Context, s *collect.Session, w portWork, o Options) (diagnose.SocketTable, diagnose.Status) {
	args := []string{"sockets", "--interval", o.Interval.String()}
	for _, p := range w.ports {
		args = append(args, "--port", strconv.Itoa(int(p)))
	}
	name, err := attach(ctx, s, w.pod, o.Image, args)
	if err != nil {
		return procTable(ctx, s, w, o, err)
	}
	var r agentapi.SocketReport
	err = readReport(ctx, s, w.pod, name, o.Interval, func(log io.Reader) (err error) {
		r, err = agentapi.ReadSockets(log)
		return err
	})
	t := diagnose.SocketTable{Pod: w.pod, Source: "inet_diag"}
	if err != nil {
		return t, agentStatus(err)
	}
	if len(r.Sockets) == 0 && len(r.Errors) > 0 {
		return t, diagnose.Status{State: diagnose.Failed, Reason: strings.Join(r.Errors, "; ")}
	}
	t.At, t.IntervalSeconds = r.At.UTC(), r.Interval
	t.Sockets = serverSockets(r.Sockets, w.ports)
	return t, diagnose.Status{}
}

// serverSockets keeps the sockets on the Service's ports.
func serverSockets(in []agentapi.Socket, ports []int32) []diagnose.Socket {
	var out []diagnose.Socket
	for _, so := range in {
		if !slices.Contains(ports, int32(so.Local.Port())) {
			continue
		}
		out = append(out, diagnose.Socket{Local: so.Local, Remote: so.Remote, State: so.State, RxRate: so.RxRate, TxRate: so.TxRate})
	}
	return out
}

// procTable reads /proc/net/tcp and tcp6 with the cat of the server's own image. why is what ephemeral containers failed with: it is
// what the reader should mend, so it stays the reason when this fails as well.
func procTable(ctx context.Context, s *collect.Session, w portWork, o Options, why error) (diagnose.SocketTable, diagnose.Status) {
	t := diagnose.SocketTable{Pod: w.pod, Source: "proc", At: time.Now().UTC().Truncate(time.Second)}
	st := agentStatus(why)
	if ctx.Err() != nil {
		return t, st
	}
	o.announce(fmt.Sprintf("no ephemeral container in pod %s (%s): running cat /proc/net/tcp there instead", w.pod, st.Reason))
	out, err := execCat(ctx, s, w.pod)
	if err != nil {
		return t, st
	}
	socks, err := parseProc(out)
	if err != nil {
		return t, st
	}
	t.Sockets = serverSockets(socks, w.ports)
	return t, diagnose.Status{}
}
