{{- /*
Names and labels. Every object's name has its helper here, for parent charts too. All take the root ($) unless they say otherwise.
Names are RELEASE-PART; a chart that was renamed (an alias in a parent chart, nameOverride) adds its name, so that
two of them fit in one release. 53 characters and -scheduler make the 63 that a Service may have.
*/}}
{{- define "modelops-dask.name" -}}
{{ .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "modelops-dask.fullname" -}}
{{- $name := include "modelops-dask.name" . }}
{{- $release := eq $name "modelops-dask" | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $release | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "modelops-dask.scheduler.fullname" -}}
{{ include "modelops-dask.fullname" . }}-scheduler
{{- end }}

{{- define "modelops-dask.scheduler.service" -}}
{{ .Values.scheduler.service.name | default (include "modelops-dask.scheduler.fullname" .) }}
{{- end }}

{{- define "modelops-dask.daskConfig.fullname" -}}
{{ include "modelops-dask.fullname" . }}-dask-config
{{- end }}

{{- define "modelops-dask.serviceAccount.fullname" -}}
{{ .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "modelops-dask.fullname" .) "default") }}
{{- end }}

{{- /* Takes (dict "root" $ "name" POOL). */}}
{{- define "modelops-dask.worker.fullname" -}}
{{ include "modelops-dask.fullname" .root }}-worker{{ if ne .name "default" }}-{{ .name }}{{ end }}
{{- end }}

{{- /*
modelops-dask.selector: the labels that choose an object's pods. A Deployment's never change, or upgrades fail.
Takes (dict "root" $ "component" NAME), and "pool" POOL for workers.
*/}}
{{- define "modelops-dask.selector" -}}
app.kubernetes.io/name: {{ include "modelops-dask.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .pool }}
modelops.io/pool: {{ . | quote }}
{{- end }}
{{- end }}

{{- /*
modelops-dask.labels: of an object or pod: its selector, what the chart says of itself, commonLabels. The preset is
the workers' alone: to switch it must not restart the scheduler. Takes what modelops-dask.selector takes.
*/}}
{{- define "modelops-dask.labels" -}}
{{- $labels := include "modelops-dask.selector" . | fromYaml }}
{{- $_ := set $labels "app.kubernetes.io/managed-by" .root.Release.Service }}
{{- $_ := set $labels "app.kubernetes.io/part-of" "modelops" }}
{{- if .pool }}
{{- $_ := set $labels "app" "dask-worker" }}
{{- with .root.Values.preset }}{{ $_ := set $labels "modelops.io/preset" . }}{{ end }}
{{- end }}
{{- merge $labels .root.Values.commonLabels | toYaml }}
{{- end }}

{{- /*
modelops-dask.objectLabels: labels of an object; its pods have those of modelops-dask.labels, without the versions,
so that a new version of the chart alone restarts nothing.
*/}}
{{- define "modelops-dask.objectLabels" -}}
{{ include "modelops-dask.labels" . }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}
