package laws

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Tree is the set of files that the laws look at, with the Go files parsed.
type Tree struct {
	// Files are all files by slash-separated path relative to the root, sorted.
	Files []string
	// Go are the parsed Go files outside testdata folders, in the same order.
	Go []GoFile

	content map[string][]byte
}

// GoFile is one parsed Go file.
type GoFile struct {
	// Path is slash-separated and relative to the tree's root.
	Path string
	// AST holds the syntax with comments; Fset resolves its positions.
	AST *ast.File
	// Fset belongs to the whole tree.
	Fset *token.FileSet
	// Lines is the number of lines in the file.
	Lines int
	// Generated is true for files with the standard "Code generated" header.
	Generated bool
}

// Test reports whether the file is compiled only into tests.
func (f GoFile) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Dir is the folder of the file, "." for the root.
func (f GoFile) Dir() string { return path.Dir(f.Path) }

// at names a position in the file as "path:line".
func (f GoFile) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Path, f.Fset.Position(pos).Line)
}

// Load reads the named files of fsys and parses the Go files among them. A file
// that does not parse is an error; one that has vanished since it was listed is
// left out.
func Load(fsys fs.FS, files []string) (*Tree, error) {
	t := &Tree{content: map[string][]byte{}}
	fset := token.NewFileSet()
	files = slices.Clone(files)
	slices.Sort(files)
	for _, name := range files {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			if info, statErr := fs.Stat(fsys, name); statErr != nil || info.IsDir() {
				continue
			}
			return nil, fmt.Errorf("read tree: %w", err)
		}
		t.Files = append(t.Files, name)
		t.content[name] = data
		if path.Ext(name) != ".go" || inTestdata(name) {
			continue
		}
		parsed, err := parser.ParseFile(fset, name, data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse tree: %w", err)
		}
		t.Go = append(t.Go, GoFile{
			Path:      name,
			AST:       parsed,
			Fset:      fset,
			Lines:     bytes.Count(data, []byte("\n")),
			Generated: ast.IsGenerated(parsed),
		})
	}
	return t, nil
}

// LoadRepo loads the files of [ListFiles].
func LoadRepo(ctx context.Context, dir string) (*Tree, error) {
	files, err := ListFiles(ctx, dir)
	if err != nil {
		return nil, err
	}
	return Load(os.DirFS(dir), files)
}

// ListFiles names what git tracks, or would track, under dir: ignored files are
// nobody's business. Without git (a source archive) it walks the folder. The
// paths are slash-separated and relative to dir; a file that was deleted and
// not committed so is still listed.
func ListFiles(ctx context.Context, dir string) ([]string, error) {
	list := exec.CommandContext(ctx, "git", "-C", dir, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	out, err := list.Output()
	if err != nil {
		return walk(os.DirFS(dir))
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), nil
}

func walk(fsys fs.FS) ([]string, error) {
	var files []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (name == ".git" || name == "bin" || name == "dist") {
			return fs.SkipDir
		}
		if d.Type().IsRegular() {
			files = append(files, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tree: %w", err)
	}
	return files, nil
}

// Has reports whether name is a file of the tree or a folder with files in it.
func (t *Tree) Has(name string) bool {
	if _, ok := t.content[name]; ok || name == "." {
		return true
	}
	i, _ := slices.BinarySearch(t.Files, name+"/")
	return i < len(t.Files) && strings.HasPrefix(t.Files[i], name+"/")
}

// Text returns the content of a file as text; false when the tree has no such
// file or it is not text.
func (t *Tree) Text(name string) (string, bool) {
	data, ok := t.content[name]
	if !ok || bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		return "", false
	}
	return string(data), true
}

// inTestdata follows the go command: such folders hold no packages.
func inTestdata(name string) bool {
	return strings.HasPrefix(name, "testdata/") || strings.Contains(name, "/testdata/")
}
