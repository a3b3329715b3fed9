import { netlinkCompliance } from './compliance/suite.ts';
import { FakeKernel } from './fake.ts';

netlinkCompliance('fake', () => {
  const kernel = new FakeKernel();
  const [first, second] = [kernel.createNamespace(), kernel.createNamespace()];
  const [a, b] = [first.connect(), second.connect()];
  return {
    a,
    b,
    bFd: second.fd,
    close: () => {
      a.close();
      b.close();
    },
  };
});
