package cli

// clusterCommands are the commands about a cluster, with their one line of help.
var clusterCommands = map[string]string{
	"up":         "Bring the cluster up (and build it first when needed)",
	"down":       "Take the cluster down and leave nothing behind",
	"status":     "Show whether the cluster is up and where things are",
	"load":       "Load image archives into every node",
	"kubeconfig": "Print the path of the cluster's kubeconfig",
	"kubectl":    "Run the lab's kubectl on the cluster",
	"build":      "Build the cluster's binaries and images",
	"path":       "Print the path of bin, kubeconfig, logs, audit or state",
	"check":      "Say in one sentence whether this machine can run the lab",
	"fault":      "Inject a fault: kill, cut or mend a node",
	"freeze":     "Stop the control plane or a kubelet until standard input ends",
	"restart":    "Kill the control plane or a kubelet and start it again",
	"version":    "Print the versions of everything the lab runs",
}
