// Resources of one kind as a table: name, the kind's own columns, age. Once, or row by row as they change.
import type { Kind } from '#model/kind.ts';
import type { Resource } from '#model/resource.ts';
import { ageOf } from './format/age.ts';
import { columnWidths, formatRow, formatTable } from './format/table.ts';

export interface ResourceTableOptions {
  readonly wide?: boolean;
  readonly namespaces?: boolean;
  readonly labels?: boolean;
  readonly headless?: boolean;
  /** Names as `kind/name`, where several kinds are shown. */
  readonly qualified?: boolean;
  /** A first column that says what happened. */
  readonly events?: boolean;
}

const EVENT_TEXT = { ADDED: 'added', MODIFIED: 'modified', DELETED: 'deleted' } as const;

export class ResourceTable {
  readonly #kind: Kind;
  readonly #options: ResourceTableOptions;
  #widths: number[] | null = null;

  constructor(kind: Kind, options: ResourceTableOptions = {}) {
    this.#kind = kind;
    this.#options = options;
  }

  text(resources: readonly Resource[]): string {
    return formatTable(
      this.#titles(),
      resources.map((r) => this.#cells(r)),
      { headless: this.#options.headless ?? false },
    );
  }

  /** One more row, below titles when it is the first. Columns only ever become wider. */
  next(resource: Resource, event: keyof typeof EVENT_TEXT): string {
    const cells = this.#cells(resource, EVENT_TEXT[event]);
    const first = this.#widths === null && this.#options.headless !== true;
    this.#widths = columnWidths(this.#titles(), [cells], this.#widths ? { widths: this.#widths } : {});
    const row = formatRow(cells, this.#widths);
    return first ? `${formatRow(this.#titles(), this.#widths)}\n${row}` : row;
  }

  #titles(): string[] {
    const { namespaces, labels, events } = this.#options;
    return [
      ...(events ? ['EVENT'] : []),
      ...(namespaces && this.#kind.namespaced ? ['NAMESPACE'] : []),
      'NAME',
      ...this.#columns().map((c) => c.title),
      'AGE',
      ...(labels ? ['LABELS'] : []),
    ];
  }

  #columns() {
    return this.#kind.columns.filter((c) => !c.wide || this.#options.wide);
  }

  #cells(resource: Resource, event?: string): string[] {
    const { namespaces, labels, events, qualified } = this.#options;
    const { metadata } = resource;
    return [
      ...(events ? [event ?? ''] : []),
      ...(namespaces && this.#kind.namespaced ? [metadata.namespace ?? ''] : []),
      qualified ? `${this.#kind.singular}/${metadata.name}` : metadata.name,
      ...this.#columns().map((c) => cellOf(() => c.value(resource))),
      ageOf(metadata.creationTimestamp),
      ...(labels ? [labelsText(metadata.labels)] : []),
    ];
  }
}

/** A resource that another version wrote may lack what a column reads; it is shown all the same. */
function cellOf(value: () => string): string {
  try {
    return value() || '-';
  } catch {
    return '?';
  }
}

export function labelsText(labels: Readonly<Record<string, string>> | undefined): string {
  const entries = Object.entries(labels ?? {});
  return entries.length === 0 ? '<none>' : entries.map(([key, value]) => `${key}=${value}`).join(',');
}
