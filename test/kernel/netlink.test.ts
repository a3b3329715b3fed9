// The compliance suite of NetlinkApi on the real kernel. Needs root.
import { netlinkCompliance } from '#netlink/compliance/suite.ts';
import { testNetns } from '../support/netns.ts';

netlinkCompliance('kernel', () => {
  const [a, b] = [testNetns('a'), testNetns('b')];
  return {
    a: a.netlink,
    b: b.netlink,
    bFd: b.fd,
    close: () => {
      a.close();
      b.close();
    },
  };
});
