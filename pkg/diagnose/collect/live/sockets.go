package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/grpclb/kubectl-grpclb/internal/agent/agentapi"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
	"github.com/grpclb/kubectl-grpclb/pkg/diagnose/collect"
)

// Sockets reads the TCP connections of server pods, from an ephemeral container in each; where the API server refuses those, from
// /proc/net/tcp by exec of the image's own cat, which gives connections without rates. Of a pod on the host's network the table is the
// node's: what is kept of it are the sockets on the pod's ports, which nobody else on that node can listen on.
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
	work, left := choosePods(snap, o.MaxPods, socketPorts)
	if len(work) == 0 {
		return diagnose.Unknown[[]diagnose.SocketTable](diagnose.NotAsked, "no ready pod of a Service that is judged to speak gRPC", "--assume-grpc reads all the same")
	}
	noteLeft(s, diagnose.FactSockets, left, o.MaxPods)
	return tables(s, readTables(ctx, s, work, o))
}

// readTables reads the sockets of pods, several at a time.
func readTables(ctx context.Context, s *collect.Session, work []podWork, o Options) []tableRead {
	o.announce(fmt.Sprintf("adding an ephemeral container (%s) to %s to read socket tables for %s; it ends by itself, its entry stays in the pod's spec",
		o.Image, countPods(work), o.Interval))
	reads := make([]tableRead, len(work))
	each := func(todo []int, do func(*tableRead)) {
		group := newLimited(ctx, maxStreams)
		var done atomic.Int32
		for _, i := range todo {
			group.Go(func() {
				do(&reads[i])
				s.Emit(collect.Event{Fact: diagnose.FactSockets, Step: collect.StepProgress, Done: int(done.Add(1)), Total: len(todo)})
			})
		}
		group.Wait()
	}
	var all, refused []int
	for i, w := range work {
		all = append(all, i)
		reads[i] = tableRead{work: w, err: errors.New("interrupted before the sockets were read"), table: diagnose.SocketTable{Pod: w.pod, Source: "inet_diag"}}
	}
	each(all, func(r *tableRead) { r.byAgent(ctx, s, o) })
	for i := range reads {
		if reads[i].refused != nil {
			refused = append(refused, i)
		}
	}
	if old := oldAgents(reads); old != "" {
		o.announce(old)
	}
	if len(refused) > 0 && ctx.Err() == nil {
		o.announce(fmt.Sprintf("%s (%s): running cat /proc/net/tcp /proc/net/tcp6 in the container of %s instead, which gives no rates",
			"no ephemeral container", statusOf(reads[refused[0]].err).Reason, countPods(pick(work, refused))))
		each(refused, func(r *tableRead) { r.byExec(ctx, s) })
	}
	return reads
}

// tables puts together what was read. A pod that failed keeps its place, with the reason.
func tables(s *collect.Session, reads []tableRead) diagnose.Fact[[]diagnose.SocketTable] {
	var out []diagnose.SocketTable
	missing := misses{fact: diagnose.FactSockets}
	for _, r := range reads {
		if r.err != nil {
			st := statusOf(r.err)
			r.table.Error = st.Reason
			missing.add(r.work.pod, st)
		}
		out = append(out, r.table)
	}
	if len(missing.statuses) == len(reads) {
		return diagnose.Fact[[]diagnose.SocketTable]{Status: missing.status("")}
	}
	missing.note(s)
	return diagnose.Know(out)
}

func pick(work []podWork, which []int) []podWork {
	var out []podWork
	for _, i := range which {
		out = append(out, work[i])
	}
	return out
}

func countPods(work []podWork) string {
	if len(work) == 1 {
		return "pod " + work[0].pod.String()
	}
	var namespaces []string
	for _, w := range work {
		if !slices.Contains(namespaces, w.pod.Namespace) {
			namespaces = append(namespaces, w.pod.Namespace)
		}
	}
	if len(namespaces) > 1 {
		return fmt.Sprintf("%d pods in %d namespaces", len(work), len(namespaces))
	}
	return fmt.Sprintf("%d pods in namespace %s", len(work), namespaces[0])
}

// socketPorts are all TCP ports of an endpoint. A Service that is not judged to speak gRPC has none: what stays in a pod's spec for good is
// not added on a guess.
func socketPorts(v *diagnose.View, e diagnose.Endpoint) []int32 {
	if !v.GRPC().Yes() {
		return nil
	}
	var out []int32
	for _, p := range v.Service.Ports {
		if p.Protocol == "" || p.Protocol == "TCP" {
			out = append(out, e.Ports[p.Name])
		}
	}
	return out
}

// tableRead is the reading of one pod's table.
type tableRead struct {
	work  podWork
	pod   *corev1.Pod // as it was before anything was added to it
	table diagnose.SocketTable
	err   error
	// refused is set when err is about ephemeral containers as such, refused by the API server or too many in the pod already, beside which
	// exec may still be allowed.
	refused error
}

// byAgent reads the table with an ephemeral container.
func (r *tableRead) byAgent(ctx context.Context, s *collect.Session, o Options) {
	if r.pod, r.err = getPod(ctx, s, r.work.pod); r.err != nil {
		return
	}
	if r.err = hostable(r.pod); r.err != nil {
		return
	}
	if r.err = roomFor(r.pod); r.err != nil {
		r.refused = r.err
		return
	}
	args := []string{"sockets", "--interval", o.Interval.String()}
	for _, p := range r.work.ports {
		args = append(args, "--port", strconv.Itoa(int(p)))
	}
	run := agentRun{pod: r.work.pod, start: o.StartWait, measure: o.Interval}
	if run.container, r.err = attach(ctx, s, r.work.pod, o.Image, args); r.err != nil {
		if refusedAsSuch(r.err) {
			r.refused = r.err
		}
		return
	}
	var report agentapi.SocketReport
	r.err = readReport(ctx, s, run, func(log io.Reader) (err error) {
		report, err = agentapi.ReadSockets(log)
		return err
	})
	if r.err == nil {
		r.take(s, report)
	}
}

// refusedAsSuch tells a refusal of ephemeral containers from a pod that is gone, an API server that does not answer, and the end.
func refusedAsSuch(err error) bool {
	var ce *collect.CallError
	return errors.As(err, &ce) && slices.Contains([]collect.Kind{collect.KindDenied, collect.KindNoGroup, collect.KindGarbage}, ce.Kind)
}

// take keeps the sockets on the Service's ports. What the report says about its own holes is passed on.
func (r *tableRead) take(s *collect.Session, report agentapi.SocketReport) {
	var holes []string
	if len(report.Errors) > 0 {
		holes = append(holes, clip(strings.Join(report.Errors, "; ")))
	}
	if report.Omitted > 0 {
		holes = append(holes, fmt.Sprintf("%d sockets were left out of the report", report.Omitted))
	}
	if report.Interrupted {
		holes = append(holes, "the agent was stopped early")
	}
	if len(holes) > 0 {
		why := diagnose.Status{State: diagnose.Failed, Reason: strings.Join(holes, "; ")}
		if len(report.Sockets) == 0 {
			r.err = &agentError{why}
			return
		}
		s.Gap(diagnose.Gap{Fact: diagnose.FactSockets, Subject: "pod " + r.work.pod.String(), Status: why})
	}
	r.table.At, r.table.IntervalSeconds = report.At.UTC(), report.Interval
	r.table.Sockets = serverSockets(report.Sockets, r.work.ports)
}

// serverSockets keeps the sockets on the Service's ports.
func serverSockets(in []agentapi.Socket, ports []int32) []diagnose.Socket {
	var out []diagnose.Socket
	for _, so := range in {
		if slices.Contains(ports, int32(so.Local.Port())) && stateWord(so.State) {
			out = append(out, diagnose.Socket{Local: so.Local, Remote: so.Remote, State: so.State, RxRate: so.RxRate, TxRate: so.TxRate})
		}
	}
	return out
}

// stateWord passes names in the form of TCP states and gRPC codes: a snapshot holds no free text of an agent whose image its user may
// replace.
func stateWord(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == ""
}

// byExec reads /proc/net/tcp and tcp6 with the cat of the server's own image. What ephemeral containers failed with is what the
// reader should mend, so it stays the reason when this fails as well.
func (r *tableRead) byExec(ctx context.Context, s *collect.Session) {
	r.table.Source, r.table.At = "proc", time.Now().UTC().Truncate(time.Second)
	text, err := execCat(ctx, s, r.pod)
	var socks []agentapi.Socket
	if err == nil {
		socks, err = parseProc(text)
	}
	if err != nil {
		st := statusOf(r.refused)
		st.Reason += ", and " + noCat(err)
		r.err = &agentError{st}
		return
	}
	r.err = nil
	r.table.Sockets = serverSockets(socks, r.work.ports)
}
