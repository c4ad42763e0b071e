{{- /*
What every pod of the chart has in common: image, account, security, variables. _storage.tpl has the volumes.
*/}}

{{- /*
modelops-dask.image: the reference of a container's image. Takes (dict "root" $ "own" VALUES), own over `image`.
A digest belongs to one repository and tag: who names another of these does not inherit it.
*/}}
{{- define "modelops-dask.image" -}}
{{- $shared := .root.Values.image }}
{{- $inherited := or .own.repository .own.tag | empty | ternary $shared.digest "" }}
{{- $digest := .own.digest | default $inherited }}
{{- .own.repository | default $shared.repository }}
{{- if $digest }}@{{ $digest }}{{ else }}:{{ .own.tag | default $shared.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- /*
modelops-dask.podSpec: the fields of a pod that all pods share. Takes (dict "root" $ "own" VALUES), own the part's, and
"account" NAME for pods that call the cluster as that account.
*/}}
{{- define "modelops-dask.podSpec" -}}
serviceAccountName: {{ .account | default (include "modelops-dask.serviceAccount.fullname" .root) }}
automountServiceAccountToken: {{ hasKey . "account" }}
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{- /*
modelops-dask.container: the fields of a container that all containers share. Takes what modelops-dask.podSpec takes.
A model that writes a file beside itself finds /tmp, the only place where it can. The end of the log of a container that
failed stays in the pod's status, where `mops-helm` reads it.
*/}}
{{- define "modelops-dask.container" -}}
image: {{ include "modelops-dask.image" (dict "root" .root "own" .own.image) | quote }}
imagePullPolicy: {{ .own.image.pullPolicy | default .root.Values.image.pullPolicy }}
workingDir: /tmp
terminationMessagePolicy: FallbackToLogsOnError
{{- with .root.Values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /*
modelops-dask.env: a map of variables as Kubernetes' list, in the order of their names.
Takes the map: name -> string, number, boolean or {valueFrom}.
*/}}
{{- define "modelops-dask.env" -}}
{{- $list := list }}
{{- range $name, $value := . }}
{{- if kindIs "map" $value }}
{{- $list = append $list (dict "name" $name "valueFrom" $value.valueFrom) }}
{{- else }}
{{- $list = append $list (dict "name" $name "value" (kindIs "string" $value | ternary $value (toJson $value))) }}
{{- end }}
{{- end }}
{{- toYaml $list }}
{{- end }}

{{- /* modelops-dask.envFrom: the secrets that become variables. Takes the root ($). */}}
{{- define "modelops-dask.envFrom" -}}
{{- with .Values.envFromSecrets }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- /*
modelops-dask.baseEnv: variables of every container, as a map. The root file system is read-only, so home is /tmp;
DASK_CONFIG makes /etc/dask the last file read, for some images bring a configuration of their own.
*/}}
{{- define "modelops-dask.baseEnv" -}}
DASK_CONFIG: /etc/dask
HOME: /tmp
{{- end }}

{{- /* modelops-dask.podAnnotations: change with the configuration, so that pods are replaced when it does. */}}
{{- define "modelops-dask.podAnnotations" -}}
checksum/dask-config: {{ include "modelops-dask.daskConfig" . | sha256sum }}
{{- end }}
