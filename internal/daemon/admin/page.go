package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/grpclb/kubectl-grpclb/pkg/refresher/sidecar"
)

// page serves what people look at, and the same as JSON.
type page struct {
	source Source
	now    func() time.Time
}

func (p page) document() Document {
	d := Document{At: p.now().UTC(), Info: p.source.Info(), Targets: p.source.Pools()}
	if d.Targets == nil {
		d.Targets = []sidecar.Stats{}
	}
	return d
}

func (p page) serveJSON(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(p.document(), "", "  ")
	if err != nil {
		http.Error(w, "The pools cannot be written as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n'))
}

func (p page) serve(w http.ResponseWriter, r *http.Request) { p.serveJSON(w, r) }

func (p page) serveFragment(w http.ResponseWriter, r *http.Request) { p.serveJSON(w, r) }
