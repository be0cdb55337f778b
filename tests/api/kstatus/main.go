// kstatus reads a JSON list of Kubernetes objects from its input and prints, as a JSON list, what the kstatus
// library (which Flux, kubectl plugins and other tools wait by) computes of each.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubejson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func run() error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	// Kubernetes' own reader: a generation must be an integer
	var objects []map[string]any
	if err := kubejson.Unmarshal(input, &objects); err != nil {
		return fmt.Errorf("the input is no list of objects: %w", err)
	}
	verdicts := make([]verdict, 0, len(objects))
	for index, object := range objects {
		result, err := status.Compute(&unstructured.Unstructured{Object: object})
		if err != nil {
			return fmt.Errorf("object %d: %w", index, err)
		}
		verdicts = append(verdicts, verdict{Status: result.Status.String(), Message: result.Message})
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(1)
	}
}
