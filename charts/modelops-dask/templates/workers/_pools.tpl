{{- /*
modelops-dask.pools: YAML, name of each pool: its values merged over `workers`. Always has `default`.
A pool's 0, false, "" and [] win; .Values stays as it was. Takes the root ($).
*/}}
{{- define "modelops-dask.pools" -}}
{{- $pools := dict }}
{{- range $name, $own := merge (dict "default" dict) (deepCopy .Values.pools) }}
{{- $_ := set $pools $name (mergeOverwrite (deepCopy $.Values.workers) (deepCopy $own)) }}
{{- end }}
{{- toYaml $pools }}
{{- end }}
