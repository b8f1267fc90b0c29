/** A modal dialog: closes with Escape, with a click beside it, and by its buttons. */

import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

interface Props {
  className: string;
  label: string;
  /** It has closed, and the focus is back where it was. */
  onClose(): void;
  children(close: () => void): ComponentChildren;
}

export function Dialog({ className, label, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  // By the browser itself, which knows where the focus came from.
  const close = () => dialog.current?.close();

  useEffect(() => dialog.current?.showModal(), []);

  return (
    // A click on the backdrop is one on the dialog itself, and a link leads away from it; the keyboard
    // has Escape.
    // oxlint-disable-next-line jsx-a11y/click-events-have-key-events, jsx-a11y/no-noninteractive-element-interactions
    <dialog
      ref={dialog}
      class={className}
      aria-label={label}
      onClose={onClose}
      onClick={({ target }) => {
        const isLink = target instanceof Element && target.closest('a') !== null;
        if (target === dialog.current || isLink) close();
      }}
    >
      {children(close)}
    </dialog>
  );
}
