/** A text in Markdown. What is inside belongs to `MarkdownView`; this only keeps the place. */

import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { MarkdownView } from '../markdown/view';
import { COPIED_MS, copyText } from './clipboard';
import { announce } from './notices';

interface Props {
  text: string;
  isStreaming: boolean;
  /** Shows that more is being written. */
  hasCaret?: boolean;
}

export function Markdown({ text, isStreaming, hasCaret = false }: Props) {
  const root = useRef<HTMLDivElement>(null);
  const view = useRef<MarkdownView>(null);

  useLayoutEffect(() => {
    if (!root.current) return;
    view.current ??= new MarkdownView(root.current, (code, button) => void copyCode(code, button));
    if (isStreaming) view.current.stream(text);
    else view.current.complete(text);
  }, [text, isStreaming]);

  useEffect(() => () => view.current?.destroy(), []);

  return <div ref={root} class={hasCaret ? 'markdown has-caret' : 'markdown'} dir="auto" />;
}

async function copyCode(code: string, button: HTMLElement): Promise<void> {
  const result = (await copyText(code)) ? 'Copied' : 'Could not copy';
  announce(result);
  button.textContent = result;
  setTimeout(() => (button.textContent = 'Copy'), COPIED_MS);
}
