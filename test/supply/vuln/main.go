// Command vuln runs govulncheck over the shipped programs and says which of
// three things is true: nothing known is reachable, something is, or nobody
// looked, because the vulnerability database is out of reach.
//
//	go run ./test/supply/vuln             # exit code 0 also when nobody looked, and a line that says so
//	go run ./test/supply/vuln -require    # for places with a network: not looking is a failure
//
// GRPCLB_VULN_DB=required in the environment is -require.
//
// The exit code is 0 when nothing known is reachable, 1 when something is or
// the tool failed, and 3 with -require when the database was out of reach.
//
// What counts is code that the programs can call, on each system that they are
// released for; govulncheck prints the call. It is built from tools/vuln.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Exit codes; 3 is apart from what "go run" itself ends with.
const (
	exitSound       = 0
	exitFailed      = 1
	exitOutOfReach  = 3
	toolFoundSome   = 3 // govulncheck's own code for findings
	publicDatabase  = "https://vuln.go.dev"
	databaseTimeout = 30 * time.Second
)

// scan is one run of the tool.
type scan struct {
	program string
	goos    string
}

// released are the programs with the systems whose code differs. Architectures
// are not told apart: the reachable calls are the same.
var released = []scan{
	{"./cmd/kubectl-grpclb", "linux"},
	{"./cmd/kubectl-grpclb", "darwin"},
	{"./cmd/kubectl-grpclb", "windows"},
	{"./cmd/grpclb-refresher", "linux"},
}

// check is a call of the command, understood.
type check struct {
	root     string // the repository's folder
	database string
	require  bool
	scans    []scan
	out      io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	c := check{scans: released, out: os.Stdout}
	flag.StringVar(&c.root, "root", ".", "the repository's `folder`")
	flag.StringVar(&c.database, "db", publicDatabase, "vulnerability database, an https or file `URL`")
	flag.BoolVar(&c.require, "require", os.Getenv("GRPCLB_VULN_DB") == "required", "fail when the database is out of reach (also GRPCLB_VULN_DB=required)")
	flag.Parse()
	code := c.run(ctx)
	stop()
	os.Exit(code)
}

func (c check) run(ctx context.Context) int {
	modified, err := databaseTime(ctx, c.database)
	if err != nil {
		fmt.Fprintf(c.out, "vulnerabilities: NOT CHECKED: the database %s is out of reach: %v\n", c.database, err)
		if c.require {
			return exitOutOfReach
		}
		return exitSound
	}
	tool, remove, err := c.build(ctx)
	if err != nil {
		fmt.Fprintf(c.out, "vulnerabilities: NOT CHECKED: %v\n", err)
		return exitFailed
	}
	defer remove()
	found := false
	for _, s := range c.scans {
		some, err := c.scan(ctx, tool, s)
		if err != nil {
			fmt.Fprintf(c.out, "vulnerabilities: NOT CHECKED: %v\n", err)
			return exitFailed
		}
		found = found || some
	}
	if found {
		fmt.Fprintln(c.out, "vulnerabilities: FOUND; update what is named above, or stop calling it")
		return exitFailed
	}
	fmt.Fprintf(c.out, "vulnerabilities: none that is known and reachable (database of %s)\n", modified.UTC().Format(time.DateOnly))
	return exitSound
}

// build makes the pinned tool in a folder that remove removes.
func (c check) build(ctx context.Context) (tool string, remove func(), err error) {
	dir, err := os.MkdirTemp("", "grpclb-vuln-")
	if err != nil {
		return "", nil, fmt.Errorf("build govulncheck: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) } // a leftover in the temporary folder harms nobody
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", dir+string(filepath.Separator), "golang.org/x/vuln/cmd/govulncheck")
	cmd.Dir = filepath.Join(c.root, "tools", "vuln")
	if out, err := cmd.CombinedOutput(); err != nil {
		remove()
		return "", nil, fmt.Errorf("build govulncheck: %w\n%s", err, bytes.TrimSpace(out))
	}
	return filepath.Join(dir, "govulncheck"), remove, nil
}

// scan reports whether the program can reach anything known.
func (c check) scan(ctx context.Context, tool string, s scan) (bool, error) {
	fmt.Fprintf(c.out, "# %s for %s\n", s.program, s.goos)
	cmd := exec.CommandContext(ctx, tool, "-db", c.database, s.program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.root, c.out, c.out
	cmd.Env = append(os.Environ(), "GOOS="+s.goos, "CGO_ENABLED=0")
	err := cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &ended) && ended.ExitCode() == toolFoundSome:
		return true, nil
	}
	return false, fmt.Errorf("govulncheck %s for %s: %w", s.program, s.goos, err)
}

// databaseTime is when the database last changed. It is an error when there is
// no database there: no route, a proxy's refusal, or something else altogether.
func databaseTime(ctx context.Context, database string) (time.Time, error) {
	u, err := url.Parse(database)
	if err != nil {
		return time.Time{}, err
	}
	var data []byte
	if u.Scheme == "file" {
		data, err = os.ReadFile(filepath.Join(filepath.FromSlash(u.Path), "index", "db.json"))
	} else {
		data, err = fetch(ctx, strings.TrimRight(database, "/")+"/index/db.json.gz")
	}
	if err != nil {
		return time.Time{}, err
	}
	var index struct{ Modified time.Time }
	if err := json.Unmarshal(data, &index); err != nil || index.Modified.IsZero() {
		return time.Time{}, errors.New("what answers there is no vulnerability database")
	}
	return index.Modified, nil
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", address, resp.Status)
	}
	unpacked, err := gzip.NewReader(resp.Body)
	if err != nil {
		return nil, errors.New("what answers there is no vulnerability database")
	}
	return io.ReadAll(io.LimitReader(unpacked, 1<<20))
}
