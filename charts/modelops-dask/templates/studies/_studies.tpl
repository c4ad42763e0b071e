{{- /*
What a study that is submitted to this release needs: the Job of its driver, or of its chunks, as `mops-helm study submit`
creates it once it has a name and arguments, and the facts to decide and to say. Drivers alone call the cluster.
*/}}

{{- /* modelops-dask.studies.on: "true" or nothing. Takes the root ($). */}}
{{- define "modelops-dask.studies.on" -}}
{{- if and .Values.studies.enabled (ne .Values.executor.type "none") }}true{{ end }}
{{- end }}

{{- /* modelops-dask.driver.account: the account of drivers: made here, or the one account that exists. Takes the root ($). */}}
{{- define "modelops-dask.driver.account" -}}
{{ include "modelops-dask.serviceAccount.fullname" . }}{{ if .Values.serviceAccount.create }}-driver{{ end }}
{{- end }}

{{- /* modelops-dask.podSlots: tasks that a pod of a pool runs side by side. Takes (dict "root" $ "pool" VALUES). */}}
{{- define "modelops-dask.podSlots" -}}
{{- $executor := .root.Values.executor }}
{{- $more := eq $executor.type "direct" | ternary 1 $executor.subprocessPoolSize }}
{{- mul .pool.processes (max .pool.threads $more) }}
{{- end }}

{{- /* modelops-dask.studies.release: JSON, the facts. Takes the root ($). */}}
{{- define "modelops-dask.studies.release" -}}
{{- $studies := .Values.studies }}
{{- $facts := dict "format" 1 "release" .Release.Name "scheduler" (include "modelops-dask.scheduler.address" .) }}
{{- $_ := set $facts "image" (include "modelops-dask.image" (dict "root" . "own" .Values.workers.image)) }}
{{- $_ := set $facts "imagePullSecrets" .Values.imagePullSecrets }}
{{- $_ := set $facts "serviceAccount" (include "modelops-dask.driver.account" .) }}
{{- $_ := set $facts "preset" .Values.preset }}
{{- $_ := set $facts "executor" .Values.executor.type }}
{{- $_ := set $facts "store" $studies.store }}
{{- $_ := set $facts "maxActive" $studies.maxActive }}
{{- $_ := set $facts "maxDurationSeconds" $studies.maxDurationSeconds }}
{{- $_ := set $facts "queueName" $studies.kueue.queueName }}
{{- $shape := dict "replicas" 1 "processes" (int64 .Values.workers.processes) "threads" (int64 .Values.workers.threads) }}
{{- $_ := set $shape "pod_memory_bytes" (include "modelops-dask.worker.podMemory" .Values.workers | int64) }}
{{- $_ := set $shape "resources" .Values.workers.daskResources }}
{{- $_ := set $facts "shape" $shape }}
{{- $atOnce := 0 }}
{{- range $name, $pool := include "modelops-dask.pools" . | fromYaml }}
{{- $pods := $pool.autoscaling.enabled | ternary $pool.autoscaling.maxReplicas $pool.replicas }}
{{- $atOnce = add $atOnce (mul $pods (include "modelops-dask.podSlots" (dict "root" $ "pool" $pool))) }}
{{- end }}
{{- $chunk := include "modelops-dask.podSlots" (dict "root" . "pool" .Values.workers) | int64 }}
{{- $_ := set $facts "slots" (dict "release" $atOnce "chunk" $chunk) }}
{{- if .Values.tls.enabled }}{{ $_ := set $facts "tlsSecret" (include "modelops-dask.tls.secret" .) }}{{ end }}
{{- toPrettyJson $facts }}
{{- end }}

{{- /*
modelops-dask.driver.job: the driver of a study whose tasks run on the release's workers. Takes the root ($).
*/}}
{{- define "modelops-dask.driver.job" -}}
{{- $own := merge (dict "image" .Values.workers.image) (deepCopy .Values.scheduler) }}
{{- $resources := .Values.studies.driver.resources }}
{{- $rest := dict "backoffLimit" 6 }}
{{- include "modelops-dask.study.job" (dict "root" . "own" $own "resources" $resources "memory" (include "modelops-dask.driver.memory" .) "rest" $rest) }}
{{- end }}

{{- /*
modelops-dask.chunk.job: a study in chunks: each pod is a driver that has the processes of a worker pod in itself, so
it has the memory of both. Takes the root ($).
*/}}
{{- define "modelops-dask.chunk.job" -}}
{{- $own := .Values.workers }}
{{- $bytes := include "modelops-dask.worker.podMemory" $own | int64 }}
{{- with include "modelops-dask.driver.memory" . }}{{ $bytes = add $bytes (include "modelops-dask.bytes" .) }}{{ end }}
{{- $rest := dict "completionMode" "Indexed" "backoffLimitPerIndex" 3 }}
{{- include "modelops-dask.study.job" (dict "root" . "own" $own "resources" $own.resources "memory" (include "modelops-dask.quantity" $bytes) "rest" $rest) }}
{{- end }}

{{- /* modelops-dask.driver.memory: a quantity; nothing when the values state none. Takes the root ($). */}}
{{- define "modelops-dask.driver.memory" -}}
{{- $resources := .Values.studies.driver.resources }}
{{- with dig "limits" "memory" (dig "requests" "memory" "" $resources) $resources }}{{ include "modelops-dask.text" . }}{{ end }}
{{- end }}

{{- /*
modelops-dask.study.job: the Job of a study. Kubernetes restarts a lost pod. A pod that was asked to stop (status 130,
after storing its running batches) does not count. A pod that ended for its own reasons is not restarted: 2 bad input,
3 failed tasks, 4 stopped by the breaker. podReplacementPolicy prevents two pods at a time with one index. Takes
(dict "root" $ "own" VALUES of placement and image "resources" VALUES "memory" QUANTITY "rest" MAP), the rest that of spec.
*/}}
{{- define "modelops-dask.study.job" -}}
{{- $labels := include "modelops-dask.labels" (dict "root" .root "component" "driver") | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" "mops-helm" }}
{{- $studies := .root.Values.studies }}
{{- $workers := .root.Values.workers }}
{{- $part := dict "root" .root "own" .own "account" (include "modelops-dask.driver.account" .root) }}
{{- $volumes := dict "root" .root "scratch" $workers.scratch "shared" true }}
{{- $indexed := hasKey .rest "completionMode" }}
apiVersion: batch/v1
kind: Job
metadata:
  labels:
    {{- toYaml $labels | nindent 4 }}
    {{- with $studies.kueue.queueName }}
    kueue.x-k8s.io/queue-name: {{ . | quote }}
    kueue.x-k8s.io/max-exec-time-seconds: {{ int64 $studies.maxDurationSeconds | quote }}
    {{- end }}
spec:
  {{- toYaml .rest | nindent 2 }}
  activeDeadlineSeconds: {{ int64 $studies.maxDurationSeconds }}
  ttlSecondsAfterFinished: 86400
  podReplacementPolicy: Failed
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions: [{type: DisruptionTarget, status: "True"}]
      - action: Ignore
        onExitCodes: {containerName: driver, operator: In, values: [130]}
      - action: {{ $indexed | ternary "FailIndex" "FailJob" }}
        onExitCodes: {containerName: driver, operator: In, values: [2, 3, 4]}
  template:
    metadata:
      labels: {{- toYaml $labels | nindent 8 }}
    spec:
      {{- include "modelops-dask.podSpec" $part | nindent 6 }}
      restartPolicy: Never
      terminationGracePeriodSeconds: 60
      containers:
        - name: driver
          {{- include "modelops-dask.container" $part | nindent 10 }}
          command: [python, -m, modelops_dask.init]
          env:
            {{- include "modelops-dask.env" (include "modelops-dask.worker.env" (dict "root" .root "pool" $workers) | fromYaml) | nindent 12 }}
          {{- include "modelops-dask.envFrom" .root | nindent 10 }}
          resources: {{- include "modelops-dask.resources" (dict "resources" .resources "memory" .memory "scratch" $workers.scratch) | nindent 12 }}
          volumeMounts:
            {{- include "modelops-dask.volumeMounts" $volumes | nindent 12 }}
            {{- if $indexed }}{{ with $workers.volumeMounts }}{{ toYaml . | nindent 12 }}{{ end }}{{ end }}
      volumes:
        {{- include "modelops-dask.volumes" $volumes | nindent 8 }}
        {{- if $indexed }}{{ with $workers.volumes }}{{ toYaml . | nindent 8 }}{{ end }}{{ end }}
{{- end }}

{{- /*
modelops-dask.test.expected: JSON, what each worker process must be, for modelops_dask.check. Of a pool that autoscales, the
fewest processes. Takes the root ($).
*/}}
{{- define "modelops-dask.test.expected" -}}
{{- $pools := dict }}
{{- range $name, $pool := include "modelops-dask.pools" . | fromYaml }}
{{- $pods := $pool.autoscaling.enabled | ternary $pool.autoscaling.minReplicas $pool.replicas }}
{{- $limit := include "modelops-dask.worker.memoryLimit" $pool | int64 }}
{{- $_ := set $pools $name (dict "processes" (mul $pods $pool.processes) "threads" (int64 $pool.threads) "memory_limit_bytes" $limit) }}
{{- end }}
{{- dict "executor" .Values.executor.type "preset" .Values.preset "pools" $pools | toJson }}
{{- end }}
