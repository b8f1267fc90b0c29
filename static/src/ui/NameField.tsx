/** A name, being changed in place: Enter saves, Escape restores, leaving the field saves too. */

import { useEffect, useRef } from 'preact/hooks';

interface Props {
  /** Of what it is the name. */
  label: string;
  name: string;
  onSave(name: string): void;
  onDone(): void;
}

export function NameField({ label, name, onSave, onDone }: Props) {
  const field = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useEffect(() => field.current?.select(), []);

  const finish = (save: boolean) => {
    if (done.current) return;
    done.current = true;
    const text = field.current?.value.trim() ?? '';
    if (save && text !== '' && text !== name) onSave(text);
    onDone();
  };
  return (
    <input
      ref={field}
      class="title-field"
      aria-label={label}
      defaultValue={name}
      maxLength={200}
      onBlur={() => finish(true)}
      onKeyDown={(event) => {
        if (event.isComposing || event.keyCode === 229) return;
        if (event.key === 'Enter') finish(true);
        if (event.key === 'Escape') {
          event.preventDefault();
          finish(false);
        }
      }}
    />
  );
}
