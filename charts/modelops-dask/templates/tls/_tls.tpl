{{- /*
TLS for Dask's connections: a secret with ca.crt, tls.crt, tls.key, mounted in every pod at /etc/modelops/tls, and
Dask's configuration that names these files (modelops-dask.daskConfig). All pods share one certificate: Dask asks only
that the CA signed it.
*/}}

{{- /* modelops-dask.tls.secret: name of the secret. Takes the root ($). */}}
{{- define "modelops-dask.tls.secret" -}}
{{ .Values.tls.existingSecret | default (printf "%s-tls" (include "modelops-dask.fullname" .)) }}
{{- end }}

{{- /* modelops-dask.scheduler.address: what workers, drivers and clients connect to. Takes the root ($). */}}
{{- define "modelops-dask.scheduler.address" -}}
{{ .Values.tls.enabled | ternary "tls" "tcp" }}://{{ include "modelops-dask.scheduler.service" . }}:8786
{{- end }}

{{- /* modelops-dask.daskConfig: JSON, dask.config and what TLS adds to it. Takes the root ($). */}}
{{- define "modelops-dask.daskConfig" -}}
{{- $config := deepCopy .Values.dask.config }}
{{- if .Values.tls.enabled }}
{{- $own := dict "cert" "/etc/modelops/tls/tls.crt" "key" "/etc/modelops/tls/tls.key" }}
{{- $tls := dict "ca-file" "/etc/modelops/tls/ca.crt" "scheduler" $own "worker" $own "client" $own }}
{{- $comm := dict "tls" $tls "require-encryption" true "default-scheme" "tls" }}
{{- $config = mergeOverwrite $config (deepCopy (dict "distributed" (dict "comm" $comm))) }}
{{- end }}
{{- toJson $config }}
{{- end }}

{{- /* modelops-dask.notes.tls: what a client needs. Takes the root ($). */}}
{{- define "modelops-dask.notes.tls" -}}
{{- if .Values.tls.enabled -}}
TLS: a client needs ca.crt, tls.crt and tls.key of the secret {{ include "modelops-dask.tls.secret" . }}, and these variables with their paths:
  DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT, DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY
{{- end }}
{{- end }}

{{- /*
modelops-dask.tls.certManager: the head of each object that cert-manager turns into the secret, for tls.enabled without a
secret: a CA that signs for this release alone, and the one certificate of its pods.
Takes (dict "root" $ "kind" KIND "suffix" TEXT), suffix of the name after that of the secret.
*/}}
{{- define "modelops-dask.tls.certManager" -}}
apiVersion: cert-manager.io/v1
kind: {{ .kind }}
metadata:
  name: {{ include "modelops-dask.tls.secret" .root }}{{ .suffix }}
  labels: {{- include "modelops-dask.objectLabels" (dict "root" .root) | nindent 4 }}
{{- end }}
