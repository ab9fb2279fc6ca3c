package docs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/grpclb/kubectl-grpclb/internal/cli"
	"github.com/grpclb/kubectl-grpclb/test/docs"
)

const root = "../.."

// asPlugin turns this program into the plugin: the kubectl of the blocks that
// run without a cluster starts it so.
const asPlugin = "GRPCLB_DOCS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// load reads every document of the repository.
func load(t *testing.T) []*docs.Page {
	t.Helper()
	names, err := docs.Find(root)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := docs.Read(root, names...)
	if err != nil {
		t.Errorf("comments before code blocks (see the package comment of test/docs):\n%v", err)
	}
	return pages
}

// blocks lists the blocks that are held to their classes, all or of some classes.
func blocks(pages []*docs.Page, classes ...docs.Class) []docs.Block {
	var out []docs.Block
	for _, p := range pages {
		for _, b := range p.Blocks {
			if docs.HasBlocks(p.Name) && (len(classes) == 0 || slices.Contains(classes, b.Class)) {
				out = append(out, b)
			}
		}
	}
	return out
}

// kubectl is what the blocks that run without a cluster find under that name.
const kubectl = `#!/bin/sh
if [ "$1" != grpclb ]; then
	echo "kubectl $*: there is no cluster here; a block that needs one is marked run: lab" >&2
	exit 64
fi
shift
%[1]s=1 exec %[2]q "$@"
`

// desk makes a folder with the repository's entries and a PATH with that kubectl.
func desk(t *testing.T) (command func(ctx context.Context, argv ...string) *exec.Cmd) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the blocks are written for sh")
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, bin := t.TempDir(), t.TempDir()
	err = errors.Join(docs.Desk(abs, dir),
		os.WriteFile(filepath.Join(bin, "kubectl"), fmt.Appendf(nil, kubectl, asPlugin, self), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, argv ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir, cmd.WaitDelay = dir, time.Minute
		cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "PWD="+dir,
			"KUBECONFIG="+filepath.Join(bin, "none"), "LC_ALL=C.UTF-8", "COLUMNS=130")
		return cmd
	}
}
