/** A chat's name, being changed in place: Enter saves, Escape restores, leaving the field saves too. */

import { useEffect, useRef } from 'preact/hooks';
import { useStore } from './store';

interface Props {
  sessionId: string;
  title: string;
  onDone(): void;
}

export function TitleField({ sessionId, title, onDone }: Props) {
  const { client } = useStore();
  const field = useRef<HTMLInputElement>(null);
  const done = useRef(false);
  useEffect(() => field.current?.select(), []);

  const finish = (save: boolean) => {
    if (done.current) return;
    done.current = true;
    const text = field.current?.value.trim() ?? '';
    if (save && text !== '' && text !== title) void client.renameSession(sessionId, text);
    onDone();
  };
  return (
    <input
      ref={field}
      class="title-field"
      aria-label="Name of the chat"
      defaultValue={title}
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
