# Written by forge. Every layer comes from forge's store, as the named context that a stage begins with.
{%- if stages %}
{%- for stage in stages %}
FROM {{ stage | word }} AS stage-{{ loop.index0 }}
{%- endfor %}
FROM stage-0 AS image
{%- for stage in stages[1:] %}
COPY --link --from=stage-{{ loop.index }} / /
{%- endfor %}
{%- else %}
FROM layers AS image
{%- endif %}
{%- if user %}
USER {{ user | word }}
{%- endif %}
{%- for port in ports %}
EXPOSE {{ port | word }}
{%- endfor %}
{%- if volumes %}
VOLUME {{ volumes | words }}
{%- endif %}
{%- if stop_signal %}
STOPSIGNAL {{ stop_signal | word }}
{%- endif %}
{%- if entrypoint %}
ENTRYPOINT {{ entrypoint | words }}
{%- endif %}
