/** A chat's name, being changed in place. */

import { NameField } from './NameField';
import { useStore } from './store';

interface Props {
  sessionId: string;
  title: string;
  onDone(): void;
}

export function TitleField({ sessionId, title, onDone }: Props) {
  const { client } = useStore();
  const save = (name: string) => void client.renameSession(sessionId, name);
  return <NameField label="Name of the chat" name={title} onSave={save} onDone={onDone} />;
}
