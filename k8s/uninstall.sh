#!/bin/sh
# Removes the injector. The webhook configuration goes first: while it is there and no injector answers, no opted-in pod
# can be created. Pods that have a sidecar keep it until they are replaced.
set -eu
kubectl delete mutatingwebhookconfiguration sidecar-injector --ignore-not-found
kubectl delete validatingadmissionpolicybinding sidecar-backstop-namespace sidecar-backstop-object --ignore-not-found
kubectl delete validatingadmissionpolicy sidecar-backstop --ignore-not-found
kubectl delete clusterrolebinding,clusterrole --selector app.kubernetes.io/name=sidecar-injector --ignore-not-found
kubectl delete namespace sidecar-injector --ignore-not-found
