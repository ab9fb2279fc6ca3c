// Package sockdiag reads the TCP sockets of its own network namespace from the kernel by NETLINK_SOCK_DIAG (sock_diag(7)), and compares
// tables read at different moments.
//
// It needs no privilege and no file: an unprivileged user under the default seccomp profile of container runtimes may dump. It changes
// nothing, and refuses to look into other namespaces or at processes.
//
//	table, err := sockdiag.Dump(ctx, sockdiag.States("ESTABLISHED", "LISTEN"))
//
// Only Linux has this interface; elsewhere Dump returns ErrUnsupported. Parsing and comparing work everywhere.
package sockdiag
