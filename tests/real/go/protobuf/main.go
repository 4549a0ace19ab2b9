// Command protobuf prints, for every built-in kind, random objects as Kubernetes protobuf (base64) and as JSON.
// tests/real/test_protobuf.py decodes the one and compares it with the other.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"

	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

func main() {
	if err := apiregistration.AddToScheme(scheme.Scheme); err != nil {
		panic(err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	for seed := int64(0); seed < 3; seed++ {
		filler := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), serializer.NewCodecFactory(scheme.Scheme))
		for gvk := range scheme.Scheme.AllKnownTypes() {
			if gvk.Version == "__internal" || gvk.Group == "internal.apiserver.k8s.io" {
				continue
			}
			object, err := scheme.Scheme.New(gvk)
			if err != nil {
				panic(err)
			}
			filler.Fill(object)
			object.GetObjectKind().SetGroupVersionKind(gvk)
			if object.GetObjectKind().GroupVersionKind().Empty() {
				continue // has no TypeMeta: it is never a body
			}
			encoded, err := runtime.Encode(encoder, object)
			if err != nil {
				panic(err)
			}
			text, err := json.Marshal(object)
			if err != nil {
				panic(err)
			}
			fmt.Fprintf(out, "%s %s\n", base64.StdEncoding.EncodeToString(encoded), text)
		}
	}
}
