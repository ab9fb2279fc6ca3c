// Package browser looks at the pools page as people do: in Chromium.
//
//	go run ./test/run browser
//
// Its tests have the build tag "browser" and need Chromium; that step installs
// it where it can. They assert what is in the document, not how it looks: for
// that they leave screenshots in the folder that SCREENSHOTS names.
package browser
