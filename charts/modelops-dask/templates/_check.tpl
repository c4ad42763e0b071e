{{- /*
modelops-dask.check: what the schema cannot say. Collects every problem of the values and fails once, with all of them.
Takes the root ($).
*/}}
{{- define "modelops-dask.check" -}}
{{- $problems := include "modelops-dask.check.env" (dict "root" . "path" "scheduler" "env" .Values.scheduler.env) }}
{{- $problems = print $problems (include "modelops-dask.check.resources" (dict "path" "scheduler" "resources" .Values.scheduler.resources)) }}
{{- $problems = print $problems (include "modelops-dask.check.resources" (dict "path" "studies.driver" "resources" .Values.studies.driver.resources)) }}
{{- $problems = print $problems (include "modelops-dask.check.store" .) }}
{{- $problems = print $problems (include "modelops-dask.check.dots" (dict "path" "dask.config" "config" .Values.dask.config)) }}
{{- range $name, $pool := include "modelops-dask.pools" . | fromYaml }}
{{- $path := eq $name "default" | ternary "workers" (printf "pools.%s" $name) }}
{{- $scope := dict "root" $ "path" $path "pool" $pool "env" $pool.env "resources" $pool.resources }}
{{- $problems = print $problems (include "modelops-dask.check.env" $scope) }}
{{- $problems = print $problems (include "modelops-dask.check.resources" $scope) }}
{{- $problems = print $problems (include "modelops-dask.check.memory" $scope) }}
{{- $problems = print $problems (include "modelops-dask.check.autoscaling" $scope) }}
{{- $problems = print $problems (include "modelops-dask.check.volumes" $scope) }}
{{- end }}
{{- if trim $problems }}
{{- fail (printf "\n\nThese values do not work together:\n%s\n" (trimSuffix "\n" $problems)) }}
{{- end }}
{{- end }}

{{- /* Variables that a value owns; with executor none no value owns a MODELOPS_ name. Each check prints a line per problem. */}}
{{- define "modelops-dask.check.env" -}}
{{- $plain := eq .root.Values.executor.type "none" }}
{{- $owned := $plain | ternary dict (include "modelops-dask.variables" . | fromYaml) }}
{{- $paths := $plain | ternary (list "HOME") (list "HOME" "MODELOPS_BUNDLES_CACHE_DIR" "MODELOPS_VENVS_DIR" "MODELOPS_SCRATCH_BYTES") }}
{{- range $name, $_ := .env }}
{{- $value := get $owned $name }}
{{- if hasPrefix "DASK_" $name }}{{ $value = "dask.config" }}{{ end }}
{{- with $value }}
  {{ $.path }}.env.{{ $name }}: set {{ . }} instead
{{- end }}
{{- if has $name $paths }}
  {{ $.path }}.env.{{ $name }}: the chart sets it to a path under /tmp; remove it
{{- end }}
{{- end }}
{{- end }}

{{- /* Dask reads nested names only and ignores dotted ones without a word. Loggers and tasks have names of their own. */}}
{{- define "modelops-dask.check.dots" -}}
{{- range $name, $value := .config }}
{{- if contains "." $name }}
  {{ $.path }}: nest {{ $name }} as {{ replace "." ": {" $name }}: ...{{ repeat (sub (splitList "." $name | len) 1 | int) "}" }}
{{- else if and (kindIs "map" $value) (not (has $name (list "logging" "default-task-durations"))) }}
{{- include "modelops-dask.check.dots" (dict "path" (printf "%s.%s" $.path $name) "config" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A folder of one pod is gone with it, and no worker sees another's. */}}
{{- define "modelops-dask.check.store" -}}
{{- with .Values.studies.store }}
{{- if not (contains "://" .) }}
{{- if not (or (eq . "/shared") (hasPrefix "/shared/" .)) }}
  studies.store: {{ . }} is not visible to every pod; use a URL, or a folder below /shared with sharedVolume.enabled
{{- else if not $.Values.sharedVolume.enabled }}
  studies.store: {{ . }} is on the shared volume; set sharedVolume.enabled
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "modelops-dask.check.resources" -}}
{{- $requests := .resources.requests | default dict }}
{{- $limits := .resources.limits | default dict }}
{{- if and $requests.memory $limits.memory }}
{{- if gt (include "modelops-dask.bytes" $requests.memory | int64) (include "modelops-dask.bytes" $limits.memory | int64) }}
  {{ .path }}.resources: requests.memory {{ $requests.memory }} exceeds limits.memory {{ $limits.memory }}; set only one of them
{{- end }}
{{- end }}
{{- if and $requests.cpu $limits.cpu }}
{{- if gt (include "modelops-dask.millicpu" $requests.cpu | int64) (include "modelops-dask.millicpu" $limits.cpu | int64) }}
  {{ .path }}.resources: requests.cpu {{ $requests.cpu }} exceeds limits.cpu {{ $limits.cpu }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A runner cannot import numpy and pandas in less than 64Mi; the same floor holds for a worker without runners. */}}
{{- define "modelops-dask.check.memory" -}}
{{- $least := 67108864 }}
{{- $limit := include "modelops-dask.worker.memoryLimit" .pool | int64 }}
{{- $pod := include "modelops-dask.quantity" (include "modelops-dask.worker.podMemory" .pool) }}
{{- if has .root.Values.executor.type (list "direct" "none") }}
{{- if lt $limit $least }}
  {{ .path }}: a pod of {{ $pod }} leaves {{ div $limit 1048576 }}Mi for each of {{ int64 .pool.processes }} processes; the minimum is 64Mi;
    raise memoryPerProcess (or the memory under resources) or lower processes
{{- end }}
{{- else }}
{{- $child := include "modelops-dask.worker.childLimit" . | int64 }}
{{- if lt $child $least }}
  {{ .path }}: a pod of {{ $pod }} leaves {{ div $limit 1048576 }}Mi for each of {{ int64 .pool.processes }} processes; without executor.workerMemory
    {{ .root.Values.executor.workerMemory }}, that is {{ div $child 1048576 }}Mi for each of its {{ max .pool.threads .root.Values.executor.subprocessPoolSize }} runners; the minimum is 64Mi;
    raise memoryPerProcess (or the memory under resources), or lower processes, threads or executor.subprocessPoolSize
{{- end }}
{{- end }}
{{- end }}

{{- /* Volumes and mounts of a pool: none twice, the chart's own counted, and each mount with its volume. */}}
{{- define "modelops-dask.check.volumes" -}}
{{- $volumes := dict }}
{{- $mounts := dict }}
{{- range include "modelops-dask.volumeMounts" (dict "root" .root "shared" true) | fromYamlArray }}
{{- $_ := set $volumes .name "the chart's own" }}
{{- $_ := set $mounts .mountPath "the chart's own" }}
{{- end }}
{{- range .pool.volumes }}
{{- $name := get . "name" | toString }}
{{- with get $volumes $name }}
  {{ $.path }}.volumes: {{ $name }} is taken by {{ . }}; choose another name
{{- end }}
{{- $_ := set $volumes $name (get $volumes $name | default "one above") }}
{{- end }}
{{- range .pool.volumeMounts }}
{{- $mountPath := get . "mountPath" | toString | trimSuffix "/" }}
{{- with get $mounts $mountPath }}
  {{ $.path }}.volumeMounts: {{ $mountPath }} is taken by {{ . }}; choose another mountPath
{{- end }}
{{- $_ := set $mounts $mountPath (get $mounts $mountPath | default "one above") }}
{{- if not (hasKey $volumes (get . "name" | toString)) }}
  {{ $.path }}.volumeMounts: {{ $mountPath }} refers to volume {{ get . "name" | toString | default "no name" }}, which does not exist
{{- end }}
{{- end }}
{{- end }}

{{- define "modelops-dask.check.autoscaling" -}}
{{- with .pool.autoscaling }}
{{- if gt (int64 .minReplicas) (int64 .maxReplicas) }}
  {{ $.path }}.autoscaling: minReplicas {{ int64 .minReplicas }} exceeds maxReplicas {{ int64 .maxReplicas }}
{{- end }}
{{- if and .enabled (not (dig "requests" "cpu" (dig "limits" "cpu" "" $.resources) $.resources)) }}
  {{ $.path }}.autoscaling: use of CPU is measured against a request; set {{ $.path }}.resources.requests.cpu
{{- end }}
{{- end }}
{{- end }}
