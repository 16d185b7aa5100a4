// What a dashboard of ours may be: the Classic types of @grafana/schema, with the options of the three kinds of panel that we use
// put in where those types leave `unknown`. `generate.sh` makes classic.json of it.
import {
  AnnotationQuery,
  Dashboard,
  FieldConfig,
  FieldConfigSource,
  Panel,
  RowPanel,
} from '@grafana/schema/dist/types/raw/dashboard/x/types.gen';
import {
  FieldConfig as TimeSeriesFieldConfig,
  Options as TimeSeriesOptions,
} from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen';
import { Options as StatOptions } from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen';
import {
  FieldConfig as StateTimelineFieldConfig,
  Options as StateTimelineOptions,
} from '@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen';

// The data source's own parts of a query and an annotation are not in @grafana/schema: these two are ours, after Grafana's
// Prometheus plugin.
interface PrometheusQuery {
  refId: string;
  expr: string;
  legendFormat: string;
  datasource: { type: 'prometheus'; uid: string };
  range: boolean;
  instant: boolean;
}
interface PrometheusAnnotation extends AnnotationQuery {
  expr: string;
  step: string;
  tagKeys: string;
  titleFormat: string;
}

interface Defaults<Custom> extends Omit<FieldConfig, 'custom'> {
  unit: string;
  custom: Custom;
}
interface Fields<Custom> extends Omit<FieldConfigSource, 'defaults'> {
  defaults: Defaults<Custom>;
}
interface Shown<Kind, Options, Custom> extends Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> {
  type: Kind;
  title: string;
  description: string;
  options: Options;
  fieldConfig: Fields<Custom>;
  targets: PrometheusQuery[];
}
type Nothing = Record<string, never>;

export interface Classic extends Omit<Dashboard, 'panels' | 'annotations'> {
  title: string;
  uid: string;
  annotations: { list: PrometheusAnnotation[] };
  panels: Array<
    | Shown<'timeseries', TimeSeriesOptions, TimeSeriesFieldConfig>
    | Shown<'stat', StatOptions, Nothing>
    | Shown<'state-timeline', StateTimelineOptions, StateTimelineFieldConfig>
    | RowPanel
  >;
}
