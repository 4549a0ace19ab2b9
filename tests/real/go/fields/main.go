// Command fields prints how Go's JSON encoding treats each field of Kubernetes' API types: its Go type,
// whether it is a pointer, and whether it is left out when empty. tools/fields_table.py makes the committed table.
package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

type field struct {
	Type    string `json:"type"`
	Kind    string `json:"kind"`
	Pointer bool   `json:"pointer,omitempty"`
	Empty   bool   `json:"omitempty,omitempty"`
	Zero    bool   `json:"omitzero,omitempty"`
}

var seen = map[reflect.Type]bool{}
var out = map[string]map[string]field{}

func short(t reflect.Type) string { return t.String() }

func walk(t reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	fields := map[string]field{}
	collect(t, fields)
	out[t.PkgPath()+"."+t.Name()] = fields
}

func collect(t reflect.Type, fields map[string]field) {
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if tag == "" && !f.Anonymous || name == "-" {
			continue
		}
		if name == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				collect(inner, fields)
			}
			continue
		}
		ft := f.Type
		pointer := ft.Kind() == reflect.Pointer
		if pointer {
			ft = ft.Elem()
		}
		fields[name] = field{short(ft), ft.Kind().String(), pointer,
			strings.Contains(options, "omitempty"), strings.Contains(options, "omitzero")}
		walk(f.Type)
	}
}

func main() {
	for _, t := range scheme.Scheme.AllKnownTypes() {
		walk(t)
	}
	walk(reflect.TypeOf(apiextensions.CustomResourceDefinition{}))
	walk(reflect.TypeOf(apiextensions.CustomResourceDefinitionList{}))
	walk(reflect.TypeOf(apiregistration.APIService{}))
	walk(reflect.TypeOf(apiregistration.APIServiceList{}))
	walk(reflect.TypeOf(metav1.Status{}))
	walk(reflect.TypeOf(metav1.APIGroupList{}))
	walk(reflect.TypeOf(metav1.APIResourceList{}))
	e := json.NewEncoder(os.Stdout)
	if err := e.Encode(out); err != nil {
		panic(err)
	}
}
