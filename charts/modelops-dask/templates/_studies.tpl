{{- /*
What a study that is submitted to this release needs: the Job of its driver, as `mops-helm study submit` creates it once
it has a name and arguments, and the facts to decide and to say. The driver is the one pod that calls the cluster.
*/}}

{{- /* modelops-dask.studies.on: "true" or nothing. Takes the root ($). */}}
{{- define "modelops-dask.studies.on" -}}
{{- if and .Values.studies.enabled (ne .Values.executor.type "none") }}true{{ end }}
{{- end }}

{{- /* modelops-dask.driver.account: the account of drivers: made here, or the one account that exists. Takes the root ($). */}}
{{- define "modelops-dask.driver.account" -}}
{{ include "modelops-dask.serviceAccount.fullname" . }}{{ if .Values.serviceAccount.create }}-driver{{ end }}
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
{{- if .Values.tls.enabled }}{{ $_ := set $facts "tlsSecret" (include "modelops-dask.tls.secret" .) }}{{ end }}
{{- toPrettyJson $facts }}
{{- end }}

{{- /*
modelops-dask.driver.job: the Job. Kubernetes tries a driver again that was lost, not one that ended by its own verdict:
2 bad input, 3 failed tasks, 4 stopped by the breaker. Never two at a time: podReplacementPolicy. Takes the root ($).
*/}}
{{- define "modelops-dask.driver.job" -}}
{{- $labels := include "modelops-dask.labels" (dict "root" . "component" "driver") | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" "mops-helm" }}
{{- $own := merge (dict "image" .Values.workers.image) (deepCopy .Values.scheduler) }}
{{- $part := dict "root" . "own" $own "account" (include "modelops-dask.driver.account" .) }}
{{- $volumes := dict "root" . "scratch" .Values.workers.scratch "shared" true }}
{{- $resources := .Values.studies.driver.resources }}
{{- $memory := dig "limits" "memory" (dig "requests" "memory" "" $resources) $resources }}
apiVersion: batch/v1
kind: Job
metadata:
  labels:
    {{- toYaml $labels | nindent 4 }}
    {{- with .Values.studies.kueue.queueName }}
    kueue.x-k8s.io/queue-name: {{ . | quote }}
    kueue.x-k8s.io/max-exec-time-seconds: {{ int64 $.Values.studies.maxDurationSeconds | quote }}
    {{- end }}
spec:
  activeDeadlineSeconds: {{ int64 .Values.studies.maxDurationSeconds }}
  ttlSecondsAfterFinished: 86400
  backoffLimit: 6
  podReplacementPolicy: Failed
  podFailurePolicy:
    rules:
      - action: Ignore
        onPodConditions: [{type: DisruptionTarget, status: "True"}]
      - action: FailJob
        onExitCodes: {containerName: driver, operator: In, values: [2, 3, 4]}
  template:
    metadata:
      labels: {{- toYaml $labels | nindent 8 }}
    spec:
      {{- include "modelops-dask.podSpec" $part | nindent 6 }}
      restartPolicy: Never
      containers:
        - name: driver
          {{- include "modelops-dask.container" $part | nindent 10 }}
          command: [python, -m, modelops_dask.init]
          env:
            {{- include "modelops-dask.env" (include "modelops-dask.worker.env" (dict "root" . "pool" .Values.workers) | fromYaml) | nindent 12 }}
          {{- include "modelops-dask.envFrom" . | nindent 10 }}
          resources: {{- include "modelops-dask.resources" (dict "resources" $resources "memory" $memory "scratch" .Values.workers.scratch) | nindent 12 }}
          volumeMounts:
            {{- include "modelops-dask.volumeMounts" $volumes | nindent 12 }}
      volumes:
        {{- include "modelops-dask.volumes" $volumes | nindent 8 }}
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
