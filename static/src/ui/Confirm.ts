/** The question before something that cannot be taken back. */

import { lazily } from './lazily';

export const ConfirmDialog = lazily(async () => (await import('./panels')).ConfirmDialog);
