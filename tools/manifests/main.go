// Checks files for Compose and Kubernetes by the code of these programs: Compose's own loader, the builder of
// `kubectl kustomize`, and the types of Kubernetes' API, strictly.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: manifests compose|kubernetes|kustomize PATH"))
	}
	switch kind, path := os.Args[1], os.Args[2]; kind {
	case "compose":
		fail(checkCompose(path))
	case "kubernetes":
		text, err := os.ReadFile(path)
		fail(err)
		fail(checkObject(text))
	case "kustomize":
		fail(checkKustomization(path))
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

// Builds a directory, and checks each object of the result.
func checkKustomization(path string) error {
	kustomizer := krusty.MakeKustomizer(krusty.MakeDefaultOptions())
	built, err := kustomizer.Run(filesys.MakeFsOnDisk(), path)
	if err != nil {
		return err
	}
	for _, object := range built.Resources() {
		text, err := object.AsYAML()
		if err != nil {
			return err
		}
		if err := checkObject(text); err != nil {
			return fmt.Errorf("%s: %w", object.CurId(), err)
		}
	}
	return nil
}

// Refuses fields that the object's kind does not have, and values of another type.
func checkObject(text []byte) error {
	var named struct {
		Kind string `json:"kind"`
	}
	if err := yaml.Unmarshal(text, &named); err != nil {
		return err
	}
	switch named.Kind {
	case "Pod":
		return yaml.UnmarshalStrict(text, &corev1.Pod{})
	case "Namespace":
		return yaml.UnmarshalStrict(text, &corev1.Namespace{})
	case "DaemonSet":
		return yaml.UnmarshalStrict(text, &appsv1.DaemonSet{})
	default:
		return fmt.Errorf("no check of the kind %q", named.Kind)
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
