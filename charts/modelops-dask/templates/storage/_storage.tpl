{{- /*
Where pods read and write. The root file system is read-only; /tmp is scratch, the one place to write, and holds the home
directory, bundles, environments, caches and what Dask spills: uv links files from its cache into environments, which
it can on one file system only.
*/}}

{{- /* modelops-dask.text: a quantity as text, 1000000 not as 1e+06. */}}
{{- define "modelops-dask.text" -}}
{{ kindIs "string" . | ternary . (toJson .) }}
{{- end }}

{{- /* modelops-dask.sharedVolume.claim: name of the claim. Takes the root ($). */}}
{{- define "modelops-dask.sharedVolume.claim" -}}
{{ .Values.sharedVolume.existingClaim | default (printf "%s-shared" (include "modelops-dask.fullname" .)) }}
{{- end }}

{{- /*
modelops-dask.volumes: the configuration, scratch and, if they are on, TLS and the shared volume.
Takes (dict "root" $ "scratch" VALUES "shared" BOOL).
*/}}
{{- define "modelops-dask.volumes" -}}
- name: dask-config
  configMap:
    name: {{ include "modelops-dask.daskConfig.fullname" .root }}
- name: scratch
  {{- if .scratch.storageClassName }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .scratch.storageClassName | quote }}
        resources:
          requests:
            storage: {{ include "modelops-dask.text" .scratch.sizeLimit | quote }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ include "modelops-dask.text" .scratch.sizeLimit | quote }}
  {{- end }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "modelops-dask.tls.secret" .root | quote }}
    items:
      - {key: ca.crt, path: ca.crt}
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- if and .shared .root.Values.sharedVolume.enabled }}
- name: shared
  persistentVolumeClaim:
    claimName: {{ include "modelops-dask.sharedVolume.claim" .root | quote }}
{{- end }}
{{- end }}

{{- /* modelops-dask.volumeMounts: where a container sees them. Takes what modelops-dask.volumes takes. */}}
{{- define "modelops-dask.volumeMounts" -}}
- name: dask-config
  mountPath: /etc/dask
  readOnly: true
- name: scratch
  mountPath: /tmp
{{- if .root.Values.tls.enabled }}
- name: tls
  mountPath: /etc/modelops/tls
  readOnly: true
{{- end }}
{{- if and .shared .root.Values.sharedVolume.enabled }}
- name: shared
  mountPath: /shared
{{- end }}
{{- end }}

{{- /*
modelops-dask.scratch.request: bytes of the node's own disk that a pod asks for: scratch, unless it is a volume, and 1Gi for
logs. Takes the scratch VALUES.
*/}}
{{- define "modelops-dask.scratch.request" -}}
{{- $disk := empty .storageClassName | ternary (include "modelops-dask.bytes" .sizeLimit) "0" }}
{{- add $disk 1073741824 }}
{{- end }}
