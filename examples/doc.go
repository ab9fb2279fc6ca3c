// Package examples keeps the example applications' manifests honest: its tests read every manifest the way an API server
// would and compare it with the programs and the image it deploys. It has no code of its own; the applications are in
// the folders beside it.
package examples
