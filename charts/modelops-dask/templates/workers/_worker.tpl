{{- /*
modelops-dask.worker.env: variables of a pool's workers, as a map. Takes (dict "root" $ "pool" VALUES).
MODELOPS_ names and the values they come from are those of _variables.tpl; names in _BYTES are quantities. Plain Dask
(executor none) has none of them: its image may read some in its own way, and then workers.env states them. No pod
downloads a Python unless executor.pythonDownloads, or UV_PYTHON_DOWNLOADS in workers.env, lets it.
*/}}
{{- define "modelops-dask.worker.env" -}}
{{- $env := include "modelops-dask.baseEnv" .root | fromYaml }}
{{- if ne .root.Values.executor.type "none" }}
{{- $_ := set $env "MODELOPS_BUNDLES_CACHE_DIR" "/tmp/modelops/bundles" }}
{{- $_ := set $env "MODELOPS_VENVS_DIR" "/tmp/modelops/venvs" }}
{{- $_ := set $env "MODELOPS_SCRATCH_BYTES" (include "modelops-dask.bytes" .pool.scratch.sizeLimit) }}
{{- range $variable, $path := include "modelops-dask.variables" . | fromYaml }}
{{- $value := $.root.Values }}
{{- range splitList "." $path }}{{ $value = get $value . }}{{ end }}
{{- $bytes := hasSuffix "_BYTES" $variable }}
{{- $_ := set $env $variable ($bytes | ternary (include "modelops-dask.bytes" $value) $value) }}
{{- end }}
{{- end }}
{{- if and (ne .root.Values.executor.type "none") (not (hasKey .pool.env "UV_PYTHON_DOWNLOADS")) }}
{{- $_ := set $env "UV_PYTHON_DOWNLOADS" (.root.Values.executor.pythonDownloads | ternary "automatic" "never") }}
{{- end }}
{{- merge $env .pool.env | toYaml }}
{{- end }}

{{- /*
modelops-dask.worker.command: what a pod of the pool runs. Takes (dict "root" $ "pool" VALUES).
All resources are one flag: Dask keeps only the last. The first worker process answers /health on 8790. Models start
processes, so process 1 is a program that waits for their ends; plain Dask (executor none) has no such program.
*/}}
{{- define "modelops-dask.worker.command" -}}
{{- if ne .root.Values.executor.type "none" }}
- python
- -m
- modelops_dask.init
{{- end }}
- dask
- worker
- {{ include "modelops-dask.scheduler.address" .root | quote }}
- --nworkers
- {{ int64 .pool.processes | quote }}
- --nthreads
- {{ int64 .pool.threads | quote }}
- --memory-limit
- {{ include "modelops-dask.worker.memoryLimit" .pool | quote }}
{{- with .pool.daskResources }}
{{- $resources := list }}
{{- range $name, $amount := . }}
{{- $resources = append $resources (printf "%s=%s" $name (toJson $amount)) }}
{{- end }}
- --resources
- {{ join " " $resources | quote }}
{{- end }}
- --death-timeout
- {{ int64 .pool.deathTimeoutSeconds | quote }}
- --local-directory
- /tmp
- --dashboard-address
- ":8790"
{{- if ne .root.Values.executor.type "none" }}
- --preload
- modelops_dask.worker
{{- end }}
{{- end }}

{{- /*
modelops-dask.worker.deployment: the Deployment of one pool.
Takes (dict "root" $ "name" NAME "pool" VALUES), VALUES merged over `workers`.
No spec.replicas while the pool autoscales: the HorizontalPodAutoscaler owns it. No liveness probe: a task that
holds the interpreter's lock keeps a sound worker from answering; --death-timeout ends the others.
*/}}
{{- define "modelops-dask.worker.deployment" -}}
{{- $scope := dict "root" .root "component" "worker" "pool" .name }}
{{- $own := dict "root" .root "own" .pool }}
{{- $volumes := dict "root" .root "scratch" .pool.scratch "shared" true }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "modelops-dask.worker.fullname" . }}
  labels: {{- include "modelops-dask.objectLabels" $scope | nindent 4 }}
spec:
  {{- if not .pool.autoscaling.enabled }}
  replicas: {{ int64 .pool.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "modelops-dask.selector" $scope | nindent 6 }}
  template:
    metadata:
      labels: {{- include "modelops-dask.labels" $scope | nindent 8 }}
      annotations: {{- include "modelops-dask.podAnnotations" .root | nindent 8 }}
    spec:
      {{- include "modelops-dask.podSpec" $own | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "modelops-dask.worker.graceSeconds" . }}
      containers:
        - name: worker
          {{- include "modelops-dask.container" $own | nindent 10 }}
          command: {{- include "modelops-dask.worker.command" . | trim | nindent 12 }}
          env:
            {{- include "modelops-dask.env" (include "modelops-dask.worker.env" . | fromYaml) | nindent 12 }}
          {{- include "modelops-dask.envFrom" .root | nindent 10 }}
          ports:
            - name: http
              containerPort: 8790
          startupProbe:
            httpGet: {path: /health, port: http}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 60
          {{- if ne .root.Values.executor.type "none" }}
          lifecycle: {{- include "modelops-dask.worker.lifecycle" . | nindent 12 }}
          {{- end }}
          {{- $memory := include "modelops-dask.quantity" (include "modelops-dask.worker.podMemory" .pool) }}
          resources: {{- include "modelops-dask.resources" (dict "resources" .pool.resources "memory" $memory "scratch" .pool.scratch) | nindent 12 }}
          volumeMounts:
            {{- include "modelops-dask.volumeMounts" $volumes | nindent 12 }}
            {{- with .pool.volumeMounts }}{{ toYaml . | nindent 12 }}{{ end }}
      volumes:
        {{- include "modelops-dask.volumes" $volumes | nindent 8 }}
        {{- with .pool.volumes }}{{ toYaml . | nindent 8 }}{{ end }}
{{- end }}

{{- /* modelops-dask.worker.autoscaler: takes what modelops-dask.worker.deployment takes. */}}
{{- define "modelops-dask.worker.autoscaler" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "modelops-dask.worker.fullname" . }}
  labels: {{- include "modelops-dask.objectLabels" (dict "root" .root "component" "worker" "pool" .name) | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "modelops-dask.worker.fullname" . }}
  minReplicas: {{ int64 .pool.autoscaling.minReplicas }}
  maxReplicas: {{ int64 .pool.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int64 .pool.autoscaling.targetCPUUtilizationPercentage }}
{{- end }}
