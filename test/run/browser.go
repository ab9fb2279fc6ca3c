package main

import (
	"context"
	"io"
	"path/filepath"
)

// browser looks at the pools page in Chromium. Its tests have a build tag of
// their own, so that the unit tests need no browser.
func (s suite) browser(ctx context.Context, out io.Writer) error {
	if err := need(ctx, out, missing{
		what: "Chromium", why: "the pools page is looked at with", programs: chromium, packages: []string{"chromium"},
		elsewhere: ", or any Chrome",
	}); err != nil {
		return err
	}
	test := command{
		dir:  filepath.Join(s.root, "test", "browser"),
		argv: []string{"go", "test", "-tags", "browser", "-count=1", "./..."},
	}
	return test.run(ctx, out)
}

// chromium are names of the browser, in the order in which the tests' driver
// looks for them.
var chromium = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}
