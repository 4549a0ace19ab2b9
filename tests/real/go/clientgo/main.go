// clientgo drives an API server as operators do: client-go informers and leader election, and a controller-runtime
// manager that reconciles ConfigMaps into Secrets. It prints one JSON line a fact and exits 0 when all held.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const namespace = "clientgo"

func say(fact string, value any) {
	line, _ := json.Marshal(map[string]any{"fact": fact, "value": value})
	fmt.Println(string(line))
}

func must(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func main() {
	log.SetLogger(zap.New())
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	must("kubeconfig", err)
	config.QPS, config.Burst = 200, 200
	clients, err := kubernetes.NewForConfig(config)
	must("client", err)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	_, err = clients.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		must("namespace", err)
	}
	informed(ctx, clients)
	conflicts(ctx, clients)
	elected(ctx, clients)
	must("manager", managed(ctx, config))
	say("done", true)
}

// informed: a shared informer sees what is created, in protobuf, and its end.
func informed(ctx context.Context, clients kubernetes.Interface) {
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(namespace))
	added, gone := make(chan string, 100), make(chan string, 100)
	informer := factory.Apps().V1().Deployments().Informer()
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { added <- o.(*appsv1.Deployment).Name },
		DeleteFunc: func(o any) { gone <- o.(metav1.Object).GetName() },
	})
	must("handler", err)
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		must("sync", fmt.Errorf("the informer did not sync"))
	}
	labels := map[string]string{"app": "x"}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "informed"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.k8s.io/pause:3.10"}}},
			},
		},
	}
	made, err := clients.AppsV1().Deployments(namespace).Create(ctx, deployment, metav1.CreateOptions{})
	must("create", err)
	say("defaulted-strategy", made.Spec.Strategy.Type)
	wait(ctx, "added", added, "informed")
	must("delete", clients.AppsV1().Deployments(namespace).Delete(ctx, "informed", metav1.DeleteOptions{}))
	wait(ctx, "deleted", gone, "informed")
}

func wait(ctx context.Context, fact string, names <-chan string, name string) {
	for {
		select {
		case got := <-names:
			if got == name {
				say("informer-"+fact, name)
				return
			}
		case <-ctx.Done():
			must(fact, ctx.Err())
		}
	}
}

// conflicts: a stale update is refused as a conflict, a patch is not.
func conflicts(ctx context.Context, clients kubernetes.Interface) {
	maps := clients.CoreV1().ConfigMaps(namespace)
	_ = maps.Delete(ctx, "stale", metav1.DeleteOptions{})
	first, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "stale"}}, metav1.CreateOptions{})
	must("create", err)
	_, err = maps.Patch(ctx, "stale", types.StrategicMergePatchType, []byte(`{"data":{"a":"1"}}`), metav1.PatchOptions{})
	must("patch", err)
	first.Data = map[string]string{"b": "2"}
	_, err = maps.Update(ctx, first, metav1.UpdateOptions{})
	say("stale-update-conflicts", apierrors.IsConflict(err))
	if !apierrors.IsConflict(err) {
		must("conflict", fmt.Errorf("want a conflict, got %v", err))
	}
}

// elected: leader election by a Lease.
func elected(ctx context.Context, clients kubernetes.Interface) {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Name: "leader", Namespace: namespace},
		Client:     clients.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: "one"},
	}
	leading := make(chan string, 1)
	inner, stop := context.WithCancel(ctx)
	go leaderelection.RunOrDie(inner, leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 6 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: time.Second, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { leading <- "one" },
			OnStoppedLeading: func() {},
		},
	})
	wait(ctx, "leader", leading, "one")
	stop()
}

type mirror struct{ client.Client }

func (m *mirror) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	var source corev1.ConfigMap
	if err := m.Get(ctx, request.NamespacedName, &source); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if source.Labels["mirror"] != "yes" {
		return ctrl.Result{}, nil
	}
	secret := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: source.Name, Namespace: source.Namespace}}
	_, err := controllerutil.CreateOrUpdate(ctx, m.Client, &secret, func() error {
		secret.StringData = source.Data
		return controllerutil.SetControllerReference(&source, &secret, m.Scheme())
	})
	return ctrl.Result{}, err
}

// managed: a controller-runtime manager with a cache reconciles until the Secret is there.
func managed(ctx context.Context, config *rest.Config) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	manager, err := ctrl.NewManager(config, ctrl.Options{Metrics: server.Options{BindAddress: "0"}})
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(manager).For(&corev1.ConfigMap{}).Owns(&corev1.Secret{}).Complete(&mirror{manager.GetClient()})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- manager.Start(inner) }()
	if !manager.GetCache().WaitForCacheSync(inner) {
		return fmt.Errorf("the cache did not sync")
	}
	direct := manager.GetClient()
	source := corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "mirrored", Namespace: namespace, Labels: map[string]string{"mirror": "yes"}},
		Data:       map[string]string{"key": "value"},
	}
	if err := direct.Create(inner, &source); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	for {
		var secret corev1.Secret
		err := manager.GetAPIReader().Get(inner, types.NamespacedName{Namespace: namespace, Name: "mirrored"}, &secret)
		if err == nil && string(secret.Data["key"]) == "value" {
			say("controller-runtime-reconciled", secret.OwnerReferences[0].Kind)
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-inner.Done():
			return inner.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
