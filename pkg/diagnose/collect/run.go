package collect

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/grpclb/kubectl-grpclb/pkg/diagnose"
)

// Run reads the API, chooses the Services to diagnose, and runs the stages one after the other (Together joins several). The
// snapshot is never nil. An error beside it is one of this package's types and says why the snapshot is not all that was asked for:
//
//   - *OptionsError, *NotFoundError, *NoNamespaceError, *NoTargetError: nothing to diagnose.
//   - *UnauthorizedError, *UnreachableError, *CallError: the cluster could not be asked.
//   - *DeletedError: a Service went away meanwhile; the facts are from before.
//   - *StoppedError: ctx ended. What was learned until then is in the snapshot.
//
// A fact that could not be had is no error: it stands in the snapshot as denied or failed, with its reason.
func Run(ctx context.Context, s *Session, opt Options, stages ...Stage) (*diagnose.Snapshot, error) {
	now := opt.Now
	if now == nil {
		now = time.Now
	}
	start, began := now(), time.Now()
	before := s.Cost()
	c := &collector{session: s, opt: opt, snap: newSnapshot(s, opt, start), served: map[string]bool{}}
	err := c.run(ctx, stages)
	c.finish(before)
	if ctx.Err() != nil {
		err = stopped(ctx, began)
	}
	return c.snap, err
}

// stopped words the end of ctx. A run whose time was up may have cleaned up since: that is not what its time was for.
func stopped(ctx context.Context, began time.Time) *StoppedError {
	e := &StoppedError{After: time.Since(began), Timeout: errors.Is(ctx.Err(), context.DeadlineExceeded), Err: ctx.Err()}
	if end, ok := ctx.Deadline(); ok && e.Timeout {
		e.After = end.Sub(began)
	}
	return e
}

// Together makes one stage of several that run at the same time. Each must keep to its own group of facts.
func Together(stages ...Stage) Stage {
	return func(ctx context.Context, s *Session, snap *diagnose.Snapshot) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, st := range stages {
			g.Go(func() error { return st(ctx, s, snap) })
		}
		return g.Wait()
	}
}

func newSnapshot(s *Session, opt Options, at time.Time) *diagnose.Snapshot {
	depth := cmp.Or(opt.Depth, DepthStatic)
	source := diagnose.DomainGiven
	if opt.Domain == "" {
		source = diagnose.DomainAssumed
	}
	snap := &diagnose.Snapshot{
		APIVersion: diagnose.APIVersion, Kind: diagnose.SnapshotKind, Tool: opt.Tool, TakenAt: at.UTC().Truncate(time.Second),
		Cluster: diagnose.Cluster{Context: s.context, Domain: cmp.Or(opt.Domain, DefaultDomain), DomainFrom: source},
		Depth:   depth, AssumeGRPC: opt.AssumeGRPC, Targets: []diagnose.Key{},
	}
	for _, n := range opt.Names {
		snap.Targets = append(snap.Targets, diagnose.Key{Namespace: opt.Namespace, Name: n})
	}
	snap.DNS.Status = diagnose.Status{Reason: "DNS is not asked at depth " + depth, Hint: "--depth observe asks it"}
	snap.Ports.Status = diagnose.Status{Reason: "ports are not asked at depth " + depth, Hint: "--depth observe asks them"}
	snap.Sockets.Status = diagnose.Status{Reason: "sockets are not read at depth " + depth, Hint: "--sockets reads them"}
	snap.Probes.Status = diagnose.Status{Reason: "no probe calls are made at depth " + depth, Hint: "--probe makes them"}
	return snap
}

// collector is one run. The first wave of requests fills its fields from several goroutines, each its own; mu guards what they
// share.
type collector struct {
	session *Session
	opt     Options
	snap    *diagnose.Snapshot

	pods      []rawPod
	workloads []rawWorkload
	// configs are what the ConfigMaps hold, by namespace and name.
	configs map[string]map[string]map[string]string
	// domain is the one by which targets were understood.
	domain string
	// selected are the Services that the label selector takes; nil without one.
	selected map[diagnose.Key]bool
	// served says for each kind of workload whether it was listed, so that an owner of that kind can be looked up.
	served map[string]bool

	mu    sync.Mutex
	gaps  []diagnose.Gap
	fails []*CallError
	good  int // groups of facts that could be had
	// partServices is true when Services could not be listed and only those that were named are known.
	partServices bool
}

func (c *collector) run(ctx context.Context, stages []Stage) error {
	if err := c.opt.validate(); err != nil {
		return err
	}
	if c.opt.Selector != "" {
		c.selected = map[diagnose.Key]bool{}
	}
	if err := c.hello(ctx); err != nil {
		return err
	}
	c.api(ctx)
	if err := c.fatal(); err != nil {
		return err
	}
	c.configMapsAndTargets(ctx)
	if err := c.choose(ctx); err != nil {
		return err
	}
	for _, st := range stages {
		if ctx.Err() != nil {
			break // Run says so
		}
		err := st(ctx, c.session, c.snap)
		c.reread()
		if err != nil {
			return c.stageError(err)
		}
	}
	if len(stages) > 0 && ctx.Err() == nil {
		return c.recheck(ctx)
	}
	return nil
}
