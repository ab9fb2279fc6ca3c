package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func (b *bench) changed() {
	b.t.Helper()
	select {
	case b.look <- time.Time{}:
	case <-time.After(30 * time.Second):
		b.t.Fatalf("nobody looks at the file\n%s", b.log)
	}
}

func TestReload(t *testing.T) {
	b := start(t, config("1 a.b:1", "2 c.d:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.saw("run c.d:1 127.0.0.10:2")
	b.changed() // it did not
	b.write(config("1 a.b:1 policy: {name: round_robin}", "3 e.f:1"))
	b.changed()
	b.logged("generation=2 added=1 removed=1 changed=1 kept=0")
	b.saw("configure a.b:1 grpclb_refresher_round_robin")
	b.saw("drain c.d:1")
	b.saw("end c.d:1")
	b.saw("run e.f:1 127.0.0.10:3")
	if _, body := b.get("/readyz"); !strings.Contains(body, "e.f:1") || strings.Contains(body, "c.d:1") || !strings.Contains(body, "generation 2") {
		t.Error(body)
	}
	// A new name is no reason to lose connections.
	b.write(config("1 a.b:1 name: square", "3 e.f:1"))
	b.changed()
	b.logged("generation=3 added=0 removed=0 changed=1 kept=1")
	if _, body := b.get("/readyz"); !strings.Contains(body, "square") {
		t.Error(body)
	}
	b.stop(ExitOK)
	b.fakes.mu.Lock()
	defer b.fakes.mu.Unlock()
	if slices.Contains(b.fakes.said, "configure e.f:1 grpclb_refresher_peak_ewma") || len(b.fakes.made) != 3 {
		t.Errorf("%q", b.fakes.said)
	}
}

// TestReloadLevel: what is logged follows the file.
func TestReloadLevel(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.write("log: {level: error}\n" + config("1 a.b:1 name: quiet"))
	b.changed()
	b.saw("configure a.b:1 grpclb_refresher_peak_ewma")
	b.write("log: {level: info}\n" + config("1 a.b:1 name: loud"))
	b.changed()
	b.logged("generation=3")
	if log := b.log.String(); strings.Contains(log, "generation=2") {
		t.Error(log)
	}
	b.stop(ExitOK)
}

func TestReloadRefused(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.write(config("1 a.b:1 polcy: {}"))
	b.changed()
	b.logged("configuration refused, the one before stays in force")
	code, body := b.get("/readyz")
	if code != 200 || !strings.Contains(body, "sidecar.yaml:6:3: targets[0].polcy: no such field; did you mean policy?") {
		t.Errorf("%d %s", code, body)
	}
	if _, metrics := b.get("/metrics"); !strings.Contains(metrics, "grpclb_refresher_config_reloads_refused_total 1\n") {
		t.Error(metrics)
	}
	b.changed() // the same file is not refused a second time
	b.changed()
	if n := strings.Count(b.log.String(), "configuration refused"); n != 1 {
		t.Errorf("%d times in\n%s", n, b.log)
	}
	b.sig <- syscall.SIGHUP // but when asked
	b.until("a second refusal", func() bool { return strings.Count(b.log.String(), "configuration refused") == 2 })
	if err := os.Remove(b.file); err != nil {
		t.Fatal(err)
	}
	b.changed()
	b.logged("no such file")
	b.changed()
	b.write(config("1 a.b:1"))
	b.changed()
	b.logged("generation=2 added=0 removed=0 changed=0 kept=1")
	if _, body := b.get("/readyz"); strings.Contains(body, "refused") {
		t.Error(body)
	}
	b.stop(ExitOK)
}

// TestReloadConfigMap changes the file as the kubelet does: the file is a link into
// ..data, which is a link that is replaced.
func TestReloadConfigMap(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.stop(ExitOK)

	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	version := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "sidecar.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	version("..one", config("1 a.b:1"))
	link("..one", filepath.Join(dir, "..data"))
	link(filepath.Join("..data", "sidecar.yaml"), filepath.Join(dir, "sidecar.yaml"))
	b.admin, b.fakes = freePort(t), &fakes{}
	b.run("--config", filepath.Join(dir, "sidecar.yaml"), "--admin", b.admin, "--debug", "off")
	b.saw("run a.b:1 127.0.0.10:1")
	version("..two", config("1 a.b:1", "2 c.d:1"))
	link("..two", filepath.Join(dir, "..data_tmp"))
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	b.changed()
	b.saw("run c.d:1 127.0.0.10:2")
	b.stop(ExitOK)
}

// TestReloadAddressTaken: a target that cannot be served after a reload is tried
// again, told of, and costs the others nothing.
func TestReloadAddressTaken(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.fakes.mu.Lock()
	b.fakes.fail["c.d:1"] = errors.New("address already in use")
	b.fakes.mu.Unlock()
	b.write(config("1 a.b:1", "2 c.d:1"))
	b.changed()
	b.saw("failed c.d:1")
	b.saw("run c.d:1 127.0.0.10:2")
	b.stop(ExitOK)
}

// TestReloadLateTarget: a target that a file adds, and that is not served yet, does
// not take the pod out of service.
func TestReloadLateTarget(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.fakes.mu.Lock()
	b.fakes.unready = "c.d:1"
	b.fakes.mu.Unlock()
	b.write(config("1 a.b:1", "2 c.d:1"))
	b.changed()
	b.saw("run c.d:1 127.0.0.10:2")
	if code, body := b.get("/readyz"); code != 200 || !strings.Contains(body, "target c.d:1: not ready") {
		t.Errorf("%d %s", code, body)
	}
	b.fakes.mu.Lock()
	b.fakes.unready = ""
	b.fakes.mu.Unlock()
	if code, body := b.get("/readyz"); code != 200 || strings.Contains(body, "c.d:1: not ready") {
		t.Errorf("%d %s", code, body)
	}
	// Once it was ready it counts.
	b.fakes.mu.Lock()
	b.fakes.unready = "c.d:1"
	b.fakes.mu.Unlock()
	if code, body := b.get("/readyz"); code != 503 {
		t.Errorf("%d %s", code, body)
	}
	b.stop(ExitOK)
}

// TestRemovedTargetDrains: the calls of a target that the file lacks get their time
// also when the daemon is told to stop meanwhile.
func TestRemovedTargetDrains(t *testing.T) {
	b := start(t, config("1 a.b:1", "2 c.d:1"))
	b.saw("run c.d:1 127.0.0.10:2")
	hold := make(chan struct{})
	b.fakes.mu.Lock()
	b.fakes.hold = hold
	b.fakes.mu.Unlock()
	b.write(config("1 a.b:1"))
	b.changed()
	b.saw("drain c.d:1")
	b.sig <- syscall.SIGTERM
	b.saw("drain a.b:1")
	b.fakes.mu.Lock()
	if slices.Contains(b.fakes.said, "end c.d:1") {
		t.Error("its calls were cut")
	}
	b.fakes.mu.Unlock()
	select {
	case code := <-b.code:
		t.Errorf("ended with %d while a call goes on", code)
	default:
	}
	close(hold)
	b.ended(ExitOK)
}

// TestReloadMovesAnAddress: the address of a target that goes is free for another
// one of the same file.
func TestReloadMovesAnAddress(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.write(config("1 c.d:1"))
	b.changed()
	b.saw("drain a.b:1")
	b.saw("run c.d:1 127.0.0.10:1")
	b.stop(ExitOK)
}

func TestReloadOfWhatNeedsAStart(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	b.write("log: {level: debug, format: json}\n" + config("1 a.b:1"))
	b.changed()
	b.logged("admin and log.format are read at the start alone")
	b.stop(ExitOK)
}

// TestReloadOfLimits: those that hold at once are put in force, the log names the
// others, until they are what they were.
func TestReloadOfLimits(t *testing.T) {
	b := start(t, config("1 a.b:1"))
	b.saw("run a.b:1 127.0.0.10:1")
	said := func() int { return strings.Count(b.log.String(), "some limits are read at the start alone") }
	for i, step := range []struct {
		limits string
		said   int
	}{
		{"{maxClients: 5}", 0}, {"{maxClients: 5, maxWait: 1s, streamWindow: 70000}", 1}, {"{maxClients: 6, maxWait: 30s}", 1},
	} {
		b.write(config("1 a.b:1 limits: " + step.limits))
		b.changed()
		b.logged(fmt.Sprintf("generation=%d added=0 removed=0 changed=1", i+2))
		if n := said(); n != step.said {
			t.Errorf("%s: said %d times, want %d\n%s", step.limits, n, step.said, b.log)
		}
	}
	b.logged(`limits="[maxWait streamWindow]"`)
	b.stop(ExitOK)
}
