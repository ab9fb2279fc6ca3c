// Package target reads what client workloads write where they mean to dial something: gRPC targets, URLs and plain host:port
// pairs in environment variables, arguments and configuration files; and tells which Service or pod of a cluster is meant.
//
//	x := target.NewIndex(services, pods, listed, "cluster.local")
//	found := x.Find("default", target.Container{Env: env, Args: args, Files: files})
//
// It keeps as little as it can: a value is looked at, and only a token that names a Service, an address of a Service or a pod, or, under
// narrow rules, a Service that does not exist is returned; user info, paths of URLs, queries and fragments never are.
//
// # What it refuses to do
//
// It does no I/O, looks up no name, and does not guess what a program does with a value: a target is a piece of configuration, not a
// connection.
package target
