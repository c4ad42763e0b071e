{{- /*
Quantities and the memory of a pool, in whole numbers: templates have no exact fractions.

  pod memory -> less 96Mi for the supervising process -> divided among the processes: --memory-limit
             -> less executor.workerMemory -> divided among the runners: what a task may use

modelops_dask/shape.py holds the same arithmetic; a test compares the two.
*/}}

{{- /*
modelops-dask.number: a quantity as a whole number of the smallest unit, rounded up; empty if it is none.
Takes (dict "quantity" VALUE "units" (dict SUFFIX SIZE ...)).
*/}}
{{- define "modelops-dask.number" -}}
{{- $text := kindIs "float64" .quantity | ternary (toJson .quantity) (toString .quantity) }}
{{- if regexMatch "^[0-9]+([.][0-9]{1,3})?[A-Za-z]*$" $text }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- if hasKey .units $unit }}
{{- $size := get .units $unit | int64 }}
{{- $parts := splitList "." (trimSuffix $unit $text) }}
{{- $whole := mul (atoi (first $parts)) $size }}
{{- $thousandths := index (append $parts "0") 1 | printf "%s000" | trunc 3 | atoi }}
{{- add $whole (div (add (mul $thousandths $size) 999) 1000) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "modelops-dask.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- include "modelops-dask.number" (dict "quantity" . "units" $units) }}
{{- end }}

{{- define "modelops-dask.millicpu" -}}
{{- include "modelops-dask.number" (dict "quantity" . "units" (dict "" 1000 "m" 1)) }}
{{- end }}

{{- /* modelops-dask.quantity: bytes as people write them, in the largest unit that divides them. Takes a number. */}}
{{- define "modelops-dask.quantity" -}}
{{- $bytes := int64 . }}
{{- if eq (mod $bytes 1073741824) 0 }}{{ div $bytes 1073741824 }}Gi
{{- else if eq (mod $bytes 1048576) 0 }}{{ div $bytes 1048576 }}Mi
{{- else }}{{ $bytes }}
{{- end }}
{{- end }}

{{- /* modelops-dask.worker.podMemory: bytes of a pod. Takes a pool's values. */}}
{{- define "modelops-dask.worker.podMemory" -}}
{{- $limit := dig "limits" "memory" "" .resources }}
{{- with $limit | default (dig "requests" "memory" "" .resources) }}
{{- include "modelops-dask.bytes" . }}
{{- else }}
{{- add (mul .processes (include "modelops-dask.bytes" .memoryPerProcess)) 100663296 }}
{{- end }}
{{- end }}

{{- /* modelops-dask.worker.memoryLimit: bytes of a worker process. Takes a pool's values. */}}
{{- define "modelops-dask.worker.memoryLimit" -}}
{{- div (sub (include "modelops-dask.worker.podMemory" .) 100663296) .processes }}
{{- end }}

{{- /* modelops-dask.worker.childLimit: bytes of a runner. Takes (dict "root" $ "pool" VALUES). */}}
{{- define "modelops-dask.worker.childLimit" -}}
{{- $own := include "modelops-dask.bytes" .root.Values.executor.workerMemory }}
{{- $shared := sub (include "modelops-dask.worker.memoryLimit" .pool) $own }}
{{- div $shared (max .pool.threads .root.Values.executor.subprocessPoolSize) }}
{{- end }}

{{- /*
modelops-dask.resources: as Kubernetes has them, with memory's request and limit made equal, and as much of the node's
disk asked for as scratch may take, unless the values state ephemeral-storage.
Takes (dict "resources" VALUES "memory" QUANTITY "scratch" VALUES); an empty quantity leaves memory alone.
*/}}
{{- define "modelops-dask.resources" -}}
{{- $resources := deepCopy .resources }}
{{- $stated := merge (dict) (.resources.requests | default dict) (.resources.limits | default dict) }}
{{- if not (hasKey $stated "ephemeral-storage") }}
{{- $disk := dict "ephemeral-storage" (include "modelops-dask.scratch.request" .scratch | include "modelops-dask.quantity") }}
{{- $resources = mergeOverwrite $resources (deepCopy (dict "requests" $disk "limits" $disk)) }}
{{- end }}
{{- with .memory }}
{{- $memory := dict "memory" . }}
{{- $resources = mergeOverwrite $resources (deepCopy (dict "requests" $memory "limits" $memory)) }}
{{- end }}
{{- toYaml $resources }}
{{- end }}
