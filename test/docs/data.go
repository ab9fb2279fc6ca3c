package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Documents are the values of a yaml or json block, one for each document.
func Documents(b Block) ([]map[string]any, error) {
	var out []map[string]any
	if b.Lang == "json" {
		var v any
		if err := json.Unmarshal([]byte(b.Text), &v); err != nil {
			return nil, fmt.Errorf("this is no JSON: %w", err)
		}
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
		return out, nil
	}
	dec := yaml.NewDecoder(bytes.NewReader([]byte(b.Text)))
	for {
		var m map[string]any
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("this is no YAML: %w", err)
		}
		if m != nil {
			out = append(out, m)
		}
	}
}

// IsObject reports whether a document is an object of Kubernetes' API.
func IsObject(doc map[string]any) bool {
	_, kind := doc["kind"].(string)
	_, version := doc["apiVersion"].(string)
	return kind && version
}

// Scripts are the shell commands inside a pipeline's definition: the steps of a
// GitHub workflow, the script of a GitLab job. The error is about a definition
// that is neither whole nor a fragment of one.
func Scripts(doc map[string]any) ([]string, error) {
	var out []string
	jobs, _ := doc["jobs"].(map[string]any)
	if _, on := doc["on"]; on != (jobs != nil) {
		return nil, errors.New("a GitHub workflow has both `on` and `jobs`")
	}
	for name, job := range jobs {
		j, _ := job.(map[string]any)
		if j["runs-on"] == nil {
			return nil, fmt.Errorf("job %s: no runs-on", name)
		}
		steps, _ := j["steps"].([]any)
		if len(steps) == 0 {
			return nil, fmt.Errorf("job %s: no steps", name)
		}
		for i, step := range steps {
			s, _ := step.(map[string]any)
			run, isRun := s["run"].(string)
			if _, uses := s["uses"].(string); uses == isRun {
				return nil, fmt.Errorf("job %s, step %d: either uses or run", name, i+1)
			}
			out = append(out, run)
		}
	}
	for _, job := range doc {
		j, _ := job.(map[string]any)
		for _, key := range []string{"before_script", "script", "after_script"} {
			lines, _ := j[key].([]any)
			for _, line := range lines {
				text, ok := line.(string)
				if !ok {
					return nil, fmt.Errorf("%s: a line that is no text: quote it", key)
				}
				out = append(out, text)
			}
		}
	}
	return out, nil
}
