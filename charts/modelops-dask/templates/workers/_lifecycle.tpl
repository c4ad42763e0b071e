{{- /*
How worker pods end. Before the signal, the preStop hook has Dask finish what the pod's processes run and give the rest
to others (python -m modelops_dask.drain); the grace period bounds it. Plain Dask (executor none) has no such program.
*/}}

{{- /* modelops-dask.worker.graceSeconds: from being asked to end to being killed. Takes (dict "root" $ "pool" VALUES). */}}
{{- define "modelops-dask.worker.graceSeconds" -}}
{{ int64 .pool.terminationGracePeriodSeconds | default (add .root.Values.executor.taskTimeoutSeconds 30) }}
{{- end }}

{{- /* modelops-dask.worker.lifecycle: the hook of a pool's container. Takes (dict "root" $ "pool" VALUES). */}}
{{- define "modelops-dask.worker.lifecycle" -}}
preStop:
  exec:
    command:
      - python
      - -m
      - modelops_dask.drain
      - {{ include "modelops-dask.scheduler.address" .root | quote }}
      - {{ include "modelops-dask.worker.graceSeconds" . | quote }}
{{- end }}

{{- /*
modelops-dask.disruptionBudget: takes (dict "root" $ "name" NAME "scope" SCOPE "allowed" MAP), SCOPE of the selector and
MAP what a PodDisruptionBudget allows.
*/}}
{{- define "modelops-dask.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "modelops-dask.objectLabels" .scope | nindent 4 }}
spec:
  {{- toYaml .allowed | nindent 2 }}
  selector:
    matchLabels: {{- include "modelops-dask.selector" .scope | nindent 6 }}
{{- end }}
