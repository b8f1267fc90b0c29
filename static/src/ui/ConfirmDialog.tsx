/** Asks before something is done that cannot be taken back. */

import { Dialog } from './Dialog';

interface Props {
  question: string;
  explanation: string;
  confirm: string;
  onConfirm(): void;
  onClose(): void;
}

export function ConfirmDialog(props: Props) {
  const { question, explanation, confirm, onConfirm, onClose } = props;
  return (
    <Dialog className="dialog" label={question} onClose={onClose}>
      {(close) => (
        <>
          <h2>{question}</h2>
          <p>{explanation}</p>
          <div class="dialog-actions">
            <button type="button" class="button" onClick={close}>
              Cancel
            </button>
            <button
              type="button"
              class="button primary"
              onClick={() => {
                close();
                onConfirm();
              }}
            >
              {confirm}
            </button>
          </div>
        </>
      )}
    </Dialog>
  );
}
