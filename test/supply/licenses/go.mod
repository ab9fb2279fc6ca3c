module github.com/grpclb/kubectl-grpclb/test/supply/licenses

go 1.26.8

require (
	github.com/google/go-cmp v0.7.0
	github.com/google/licensecheck v0.3.1
)
