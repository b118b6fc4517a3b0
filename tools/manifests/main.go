// Checks the guide's files for Compose and Kubernetes by the code of these programs: Compose's own loader, and the
// types of Kubernetes' API, strictly.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: manifests compose|pod FILE"))
	}
	switch kind, path := os.Args[1], os.Args[2]; kind {
	case "compose":
		fail(checkCompose(path))
	case "pod":
		fail(checkPod(path))
	default:
		fail(fmt.Errorf("no such kind: %s", kind))
	}
}

func checkCompose(path string) error {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("guide"))
	if err != nil {
		return err
	}
	_, err = options.LoadProject(context.Background())
	return err
}

func checkPod(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Refuses fields that a pod does not have, and values of another type.
	return yaml.UnmarshalStrict(text, &corev1.Pod{})
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
