package diagnose

// Finding is one thing that is wrong with one subject, with the evidence that proves it.
type Finding struct {
	Check      string     `json:"check"`
	Severity   Severity   `json:"severity"`
	Confidence Confidence `json:"confidence"`
	// Subject is what has to change, as kubectl names it: "svc/square-service", "deploy/aggregator-app".
	Subject string `json:"subject"`
	// Summary is one plain sentence, lower case unless a name starts it, without the final dot.
	Summary string `json:"summary"`
	// Evidence lists what proves it, most telling first, each a sentence that stands alone.
	Evidence []string `json:"evidence,omitempty"`
	// Fixes are alternatives, recommended first.
	Fixes []Fix `json:"fixes,omitempty"`
}

// Strategy names a fix that `kubectl grpclb fix --strategy` can write out.
type Strategy string

// The strategies that this build implements.
const (
	StrategyHeadless Strategy = "headless" // a second, headless Service and round_robin in the clients
	StrategySidecar  Strategy = "sidecar"  // the refresher beside each client, which balances its calls
	StrategyMesh     Strategy = "mesh"     // put the clients into Linkerd or Istio, dial the ClusterIP
	StrategyMaxAge   Strategy = "max-age"  // servers close connections after a while, so that clients look again
)

// Fix is a verb phrase and data: what to run or apply, never prose alone.
type Fix struct {
	Title    string    `json:"title"`              // "use a headless Service with round_robin"
	Strategy Strategy  `json:"strategy,omitempty"` // set when `fix --strategy` writes the whole of it
	Commands []Command `json:"commands,omitempty"`
	// Manifests are YAML documents to apply, Patches strategic-merge patches of the named objects.
	Manifests []string  `json:"manifests,omitempty"`
	Patches   []Patch   `json:"patches,omitempty"`
	Snippets  []Snippet `json:"snippets,omitempty"`
	// Caveats are what the fix changes besides what it mends, each a sentence.
	Caveats []string `json:"caveats,omitempty"`
}

// Command is a command line as an argument vector; reporters quote it for a shell.
type Command struct {
	Args   []string `json:"args"`
	PipeTo []string `json:"pipeTo,omitempty"` // a second command that reads the first one's output
	Note   string   `json:"note,omitempty"`
}

// Patch is a strategic-merge patch in YAML for one object ("deploy/aggregator-app", namespace apart).
type Patch struct {
	Namespace string `json:"namespace"`
	Subject   string `json:"subject"`
	YAML      string `json:"yaml"`
}

// Snippet is code for one language: go, java, python, node, cpp or csharp.
type Snippet struct {
	Language string `json:"language"`
	Where    string `json:"where,omitempty"` // "client" or "server"
	Code     string `json:"code"`
}
