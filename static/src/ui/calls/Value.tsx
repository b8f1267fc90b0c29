/** What goes into a call or comes out of it, cut where it is long. */

import { useSignal } from '@preact/signals';
import { useMemo } from 'preact/hooks';

const MAX_LINES = 20;
/** A line may be as long as a file. */
const MAX_CHARS = 8_000;

interface Props {
  label: string;
  value: unknown;
  isError?: boolean;
}

export function Value({ label, value, isError = false }: Props) {
  const whole = useSignal(false);
  const text = useMemo(() => textOf(value), [value]);
  const beginning = useMemo(() => beginningOf(text), [text]);
  const isCut = beginning.length < text.length;
  return (
    <div class={isError ? 'tool-value is-error' : 'tool-value'}>
      <p>{label}</p>
      {/* oxlint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so it must be reachable */}
      <pre tabIndex={0} role="group" aria-label={label} dir="auto">
        {whole.value ? text : beginning}
        {isCut && !whole.value && '\n…'}
      </pre>
      {isCut && (
        <button type="button" class="link" onClick={() => (whole.value = !whole.value)}>
          {whole.value ? 'Show less' : `Show all (${sizeOf(text)})`}
        </button>
      )}
    </div>
  );
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}

export function beginningOf(text: string): string {
  let end = -1;
  for (let line = 0; line < MAX_LINES; line++) {
    end = text.indexOf('\n', end + 1);
    if (end < 0) break;
  }
  return text.slice(0, Math.min(end < 0 ? text.length : end, MAX_CHARS));
}

function sizeOf(text: string): string {
  const lines = text.split('\n').length;
  return lines > MAX_LINES ? `${lines} lines` : `${text.length} characters`;
}
