package kube

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// wanted is the target's port: a number, or a name when that is not "".
type wanted struct {
	number uint16
	name   string
}

// String is the port as it was written.
func (w wanted) String() string {
	if w.name != "" {
		return w.name
	}
	return strconv.Itoa(int(w.number))
}

// knowledge says what is known of the Service object.
type knowledge uint8

const (
	notAsked knowledge = iota
	present
	missing
	unreadable // no right, or the question failed
)

// service is what matters of the Service object.
type service struct {
	known        knowledge
	headless     bool
	externalName string
	ports        []port // number is the Service's port, not the pods'
}

func projectService(svc *corev1.Service) service {
	out := service{known: present, headless: svc.Spec.ClusterIP == corev1.ClusterIPNone}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		out.externalName = svc.Spec.ExternalName
	}
	for _, p := range svc.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			out.ports = append(out.ports, port{p.Name, uint16(p.Port)})
		}
	}
	return out
}

// choice says which port of a slice is meant: the one with a name, and for
// slices that stand for every port a number.
type choice struct {
	name   string
	number uint16
}

// of returns the number of the chosen port in the slice.
func (c choice) of(s slice) (uint16, bool) {
	for _, p := range s.ports {
		switch {
		case p.number == 0 && c.number != 0:
			return c.number, true
		case p.number != 0 && p.name == c.name:
			return p.number, true
		}
	}
	return 0, false
}

// ruling is a choice, or why there is none.
type ruling struct {
	choice
	// ask means that the Service has to be read first.
	ask bool
	// err is a *PortError, warning a sentence about a choice that is a guess.
	err     error
	warning string
}

// rule finds out which port is meant: see "Ports" in the package's
// documentation. svc is asked for only where the slices do not settle it.
func rule(id string, w wanted, all map[string]slice, svc service) ruling {
	ports := offers(all)
	bad := func(hint string) ruling {
		e := &PortError{Service: id, Port: w.String(), Hint: hint}
		for _, p := range ports {
			e.Offered = append(e.Offered, offered(p.name, p.number))
		}
		return ruling{err: e}
	}
	if w.name != "" {
		// Every port (number 0) has no name to be found by.
		if slices.ContainsFunc(ports, func(p port) bool { return p.name == w.name && p.number != 0 }) {
			return ruling{choice: choice{name: w.name}}
		}
		return bad("")
	}
	if len(ports) == 1 && (ports[0].number == w.number || ports[0].number == 0) {
		return ruling{choice: choice{ports[0].name, w.number}}
	}
	if svc.known == notAsked {
		return ruling{ask: true}
	}
	pods, byPods := find(ports, w.number)
	if svc.known == present {
		asService, byService := find(svc.ports, w.number)
		if byService && !slices.ContainsFunc(ports, func(p port) bool { return p.name == asService.name }) {
			byService = false // no pod has it
		}
		switch {
		case byPods && (svc.headless || !byService):
			return ruling{choice: choice{pods.name, w.number}}
		case byService:
			return ruling{choice: choice{asService.name, w.number}}
		}
		return bad("")
	}
	switch {
	case byPods:
		return ruling{choice: choice{pods.name, w.number}}
	case oneName(ports):
		return ruling{choice: choice{ports[0].name, w.number}, warning: fmt.Sprintf(
			"port %d of Service %s is taken for %s, the only one: the Service could not be read; name the port in the target, or allow \"get services\"",
			w.number, id, offered(ports[0].name, ports[0].number))}
	}
	return bad(`the Service could not be read: name the port in the target, or allow "get services"`)
}

// offers are the distinct TCP ports of the slices that have endpoints, sorted.
func offers(all map[string]slice) []port {
	var out []port
	for _, s := range all {
		if len(s.entries) > 0 {
			out = append(out, s.ports...)
		}
	}
	slices.SortFunc(out, func(a, b port) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.number, b.number)) })
	return slices.Compact(out)
}

func find(ports []port, number uint16) (port, bool) {
	i := slices.IndexFunc(ports, func(p port) bool { return p.number == number })
	if i < 0 {
		// Slices that stand for every port have it as well.
		i = slices.IndexFunc(ports, func(p port) bool { return p.number == 0 })
	}
	if i < 0 {
		return port{}, false
	}
	return ports[i], true
}

func oneName(ports []port) bool {
	return len(ports) > 0 && !slices.ContainsFunc(ports, func(p port) bool { return p.name != ports[0].name })
}
