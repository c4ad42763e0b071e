{{- /*
Who may reach the pods, and what they may reach. A policy for each component:

  component   from                                        to, when egress is closed (and DNS)
  scheduler   workers, drivers, clients: Dask, dashboard  workers
  worker      scheduler, workers: every port              scheduler, workers, packageIndex, registry, store
  driver      nobody                                      scheduler, packageIndex, registry, store, apiServer

Dask's workers listen on random ports, so between scheduler and workers every port is open. A node reaches its own
pods whatever policies say: probes and port-forward need no rule.
*/}}

{{- /* modelops-dask.clientLabel: a pod of the namespace that has it, "true", may reach the scheduler. Takes the root ($). */}}
{{- define "modelops-dask.clientLabel" -}}
modelops.io/client-{{ include "modelops-dask.fullname" . }}
{{- end }}

{{- /* modelops-dask.peer: the pods of a component, as YAML. Takes (dict "root" $ "component" NAME). */}}
{{- define "modelops-dask.peer" -}}
podSelector:
  matchLabels: {{- include "modelops-dask.selector" . | nindent 4 }}
{{- end }}

{{- /* modelops-dask.networkPolicy: the policy of one component. Takes (dict "root" $ "component" NAME). */}}
{{- define "modelops-dask.networkPolicy" -}}
{{- $values := .root.Values.networkPolicy }}
{{- $listed := concat $values.egress.packageIndex $values.egress.registry $values.egress.store }}
{{- $scheduler := include "modelops-dask.peer" (dict "root" .root "component" "scheduler") | fromYaml }}
{{- $worker := include "modelops-dask.peer" (dict "root" .root "component" "worker") | fromYaml }}
{{- $driver := include "modelops-dask.peer" (dict "root" .root "component" "driver") | fromYaml }}
{{- $client := dict "podSelector" (dict "matchLabels" (dict (include "modelops-dask.clientLabel" .root) "true")) }}
{{- $ports := list (dict "port" 8786 "protocol" "TCP") (dict "port" 8787 "protocol" "TCP") }}
{{- $toScheduler := list (dict "to" (list $scheduler) "ports" $ports) }}
{{- $toWorkers := list (dict "to" (list $worker)) }}
{{- $ingress := list }}
{{- $egress := list (dict "ports" (list (dict "port" 53 "protocol" "UDP") (dict "port" 53 "protocol" "TCP"))) }}
{{- if eq .component "scheduler" }}
{{- $ingress = list (dict "from" (concat (list $worker $driver $client) $values.clients) "ports" $ports) }}
{{- $egress = concat $egress $toWorkers }}
{{- else if eq .component "worker" }}
{{- $ingress = list (dict "from" (list $scheduler $worker)) }}
{{- $egress = concat $egress $toScheduler $toWorkers $listed }}
{{- else }}
{{- $egress = concat $egress $toScheduler $listed $values.egress.apiServer }}
{{- end }}
{{- $scope := dict "root" .root "component" .component }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "modelops-dask.fullname" .root }}-{{ .component }}
  labels: {{- include "modelops-dask.objectLabels" $scope | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "modelops-dask.selector" $scope | nindent 6 }}
  policyTypes:
    - Ingress
    {{- if $values.egress.closed }}
    - Egress
    {{- end }}
  {{- with $ingress }}
  ingress: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $values.egress.closed }}
  egress: {{- toYaml $egress | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* modelops-dask.notes.network: what a person must know of it. Takes the root ($). */}}
{{- define "modelops-dask.notes.network" -}}
{{- with .Values.networkPolicy }}
{{- if .enabled }}
Network: only this release's workers and drivers reach the scheduler
{{- with .clients }}, {{ len . }} more of networkPolicy.clients{{ end }}, and pods of this namespace
with a label (for others a connection hangs):
  {{ include "modelops-dask.clientLabel" $ }}: "true"
{{- if .egress.closed }}
The pods reach each other and DNS
{{- $open := list }}
{{- range $name := list "packageIndex" "registry" "store" "apiServer" }}
{{- if get $.Values.networkPolicy.egress $name }}{{ $open = append $open $name }}{{ end }}
{{- end }}
{{- with $open }}, and what networkPolicy.egress lists as {{ join ", " . }}{{ end }}; nothing else.
{{- if and (eq $.Values.executor.environment "bundle") (not (has $.Values.executor.type (list "none" "direct"))) (not .egress.packageIndex) }}

WARNING: each bundle needs its own environment (executor.environment bundle), but the pods cannot reach a package index.
List it under networkPolicy.egress.packageIndex, or set executor.environment to image.
{{- end }}
{{- end }}
{{- else }}
WARNING: networkPolicy is off. Anyone who reaches a port of the scheduler or of a worker can run code in the pods.
{{- end }}
{{- end }}
{{- end }}
